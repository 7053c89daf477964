/* The model server of benchmarks/gateway.py: answers at once, so that what is measured is what stands before it.

     gateway_upstream PORT [PATH=JSON ...]      fixed replies by path, for what a gateway asks a host beforehand

   POST /v1/chat/completions and /api/chat answer in the wire of their path, whole or as a stream, and name the
   model that was asked for. Each streamed event carries the time at which it was written (CLOCK_MONOTONIC, ns)
   as the word " t<ns>", so that a client on the same machine can tell how long it was on its way.
   GET /set?events=N&delay_us=N says how many events a stream has, and how far apart they are.
   One thread, epoll; loopback only; no protection against hostile peers. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 4096, IN_BYTES = 1 << 18, OUT_BYTES = 1 << 16, ANSWER_WORDS = 100 };

typedef struct {
    int open, waits_to_write, ollama;
    char *in;
    size_t in_used;
    char *out;
    size_t out_used;
    long events_left, events_sent;
    int64_t next_ns;
    char model[128];
} Connection;

static Connection connections[MOST_CONNECTIONS];
static int streams[MOST_CONNECTIONS], stream_count;
static int poller, timer;
static long events = 64, delay_us = 0;
static const char **fixed;
static int fixed_count;
static char answer[4096];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void watch(int fd, int for_writing) {
    struct epoll_event wanted = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &wanted);
    connections[fd].waits_to_write = for_writing;
}

static void drop(int fd) {
    Connection *c = &connections[fd];
    if (!c->open) return;
    for (int i = 0; i < stream_count; i++)
        if (streams[i] == fd) streams[i] = streams[--stream_count];
    close(fd);
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
}

static void flush(int fd) {
    Connection *c = &connections[fd];
    size_t done = 0;
    while (done < c->out_used) {
        ssize_t n = send(fd, c->out + done, c->out_used - done, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) break;
            drop(fd);
            return;
        }
        done += (size_t)n;
    }
    memmove(c->out, c->out + done, c->out_used - done);
    c->out_used -= done;
    if ((c->out_used > 0) != c->waits_to_write) watch(fd, c->out_used > 0);
}

static void put(int fd, const char *data, size_t size) {
    Connection *c = &connections[fd];
    if (!c->open) return;
    if (c->out_used + size > OUT_BYTES) {
        drop(fd);
        return;
    }
    memcpy(c->out + c->out_used, data, size);
    c->out_used += size;
    flush(fd);
}

static void reply(int fd, int status, const char *body) {
    char head[256];
    static char all[OUT_BYTES];
    size_t size = strlen(body);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
                     status, status == 200 ? "OK" : "Not Found", size);
    if ((size_t)n + size > sizeof all) return drop(fd);
    memcpy(all, head, (size_t)n);
    memcpy(all + n, body, size);
    put(fd, all, (size_t)n + size);
}

static void put_chunk(int fd, const char *line, int size) {
    char chunk[1024];
    int n = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", size, line);
    put(fd, chunk, (size_t)n);
}

static void send_event(int fd) {
    Connection *c = &connections[fd];
    char line[768];
    int n;
    if (c->ollama)
        n = snprintf(line, sizeof line,
                     "{\"model\":\"%s\",\"created_at\":\"2026-01-01T00:00:00.000000Z\",\"message\":{\"role\":\"assistant\","
                     "\"content\":\" t%lld\"},\"done\":false}\n", c->model, (long long)now_ns());
    else
        n = snprintf(line, sizeof line,
                     "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"%s\","
                     "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" t%lld\"},\"finish_reason\":null}]}\n\n",
                     c->model, c->events_sent ? "" : "\"role\":\"assistant\",", (long long)now_ns());
    c->events_sent++;
    put_chunk(fd, line, n);
}

static void send_end(int fd) {
    Connection *c = &connections[fd];
    char line[768];
    int n;
    if (c->ollama)
        n = snprintf(line, sizeof line,
                     "{\"model\":\"%s\",\"created_at\":\"2026-01-01T00:00:00.000000Z\",\"message\":{\"role\":\"assistant\","
                     "\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":1000000,\"load_duration\":1000,"
                     "\"prompt_eval_count\":26,\"prompt_eval_duration\":1000,\"eval_count\":%ld,\"eval_duration\":900000}\n",
                     c->model, c->events_sent);
    else
        n = snprintf(line, sizeof line,
                     "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"%s\","
                     "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                     "data: [DONE]\n\n", c->model);
    put_chunk(fd, line, n);
    put(fd, "0\r\n\r\n", 5);
}

/* Sends what is due of one stream; 1 while there is more to come. */
static int go_on(int fd, int64_t now) {
    Connection *c = &connections[fd];
    while (c->open && c->events_left > 0 && c->next_ns <= now) {
        send_event(fd);
        c->events_left--;
        c->next_ns += delay_us * 1000;
    }
    if (!c->open) return 0;
    if (c->events_left > 0) return 1;
    send_end(fd);
    return 0;
}

static void begin_stream(int fd) {
    Connection *c = &connections[fd];
    char head[160];
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n",
                     c->ollama ? "application/x-ndjson" : "text/event-stream");
    c->events_left = events;
    c->events_sent = 0;
    c->next_ns = now_ns();
    put(fd, head, (size_t)n);
    if (go_on(fd, now_ns())) streams[stream_count++] = fd;
}

static void answer_task(int fd, const char *body, int ollama) {
    Connection *c = &connections[fd];
    static char text[8192];
    const char *model = strstr(body, "\"model\""), *stream = strstr(body, "\"stream\"");
    c->ollama = ollama;
    c->model[0] = 0;
    if (model && (model = strchr(model + 7, '"'))) {
        size_t n = strcspn(model + 1, "\"");
        if (n >= sizeof c->model) n = sizeof c->model - 1;
        memcpy(c->model, model + 1, n);
        c->model[n] = 0;
    }
    if (stream) stream += 8 + strspn(stream + 8, ": ");
    if (ollama ? !stream || *stream != 'f' : stream && *stream == 't') return begin_stream(fd);
    if (ollama)
        snprintf(text, sizeof text,
                 "{\"model\":\"%s\",\"created_at\":\"2026-01-01T00:00:00.000000Z\",\"message\":{\"role\":\"assistant\",\"content\":"
                 "\"%s\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":1000000,\"load_duration\":1000,"
                 "\"prompt_eval_count\":26,\"prompt_eval_duration\":1000,\"eval_count\":%d,\"eval_duration\":900000}",
                 c->model, answer, ANSWER_WORDS);
    else
        snprintf(text, sizeof text,
                 "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"%s\",\"choices\":[{\"index\":0,"
                 "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":26,"
                 "\"completion_tokens\":%d,\"total_tokens\":%d}}", c->model, answer, ANSWER_WORDS, ANSWER_WORDS + 26);
    reply(fd, 200, text);
}

static void set(const char *query) {
    const char *found;
    if ((found = strstr(query, "events="))) events = atol(found + 7);
    if ((found = strstr(query, "delay_us="))) delay_us = atol(found + 9);
}

static void handle(int fd, char *head, const char *body) {
    char *path = strchr(head, ' ');
    if (!path) return drop(fd);
    path++;
    path[strcspn(path, " \r\n")] = 0;
    if (!strncmp(path, "/set?", 5)) {
        set(path + 5);
        return reply(fd, 200, "{}");
    }
    for (int i = 0; i < fixed_count; i++) {
        const char *text = strchr(fixed[i], '=');
        size_t size = text ? (size_t)(text - fixed[i]) : 0;
        if (size && size == strlen(path) && !strncmp(path, fixed[i], size)) return reply(fd, 200, text + 1);
    }
    if (!strcmp(path, "/v1/chat/completions")) return answer_task(fd, body, 0);
    if (!strcmp(path, "/api/chat")) return answer_task(fd, body, 1);
    reply(fd, 404, "{\"error\":\"not here\"}");
}

static size_t length_of_body(const char *head, const char *end) {
    for (const char *line = strstr(head, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "content-length:", 15)) return (size_t)atol(line + 17);
    return 0;
}

static void read_from(int fd) {
    Connection *c = &connections[fd];
    ssize_t n = recv(fd, c->in + c->in_used, IN_BYTES - 1 - c->in_used, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    c->in_used += (size_t)n;
    c->in[c->in_used] = 0;
    while (c->open && c->in_used > 0) {
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) break;
        size_t head = (size_t)(end - c->in) + 4, whole = head + length_of_body(c->in, end);
        if (c->in_used < whole) break;
        char after = c->in[whole];
        c->in[whole] = 0;
        handle(fd, c->in, c->in + head);
        if (!c->open) return;
        c->in[whole] = after;
        memmove(c->in, c->in + whole, c->in_used - whole + 1);
        c->in_used -= whole;
    }
    if (c->open && c->in_used == IN_BYTES - 1) drop(fd);
}

static void take_connections(int listening) {
    for (;;) {
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (fd < 0) return;
        if (fd >= MOST_CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd] = (Connection){.open = 1, .in = malloc(IN_BYTES), .out = malloc(OUT_BYTES)};
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted);
    }
}

static void serve_streams(void) {
    int64_t now = now_ns(), next = 0;
    for (int i = 0; i < stream_count;) {
        int fd = streams[i];
        if (!go_on(fd, now)) {
            if (i < stream_count && streams[i] == fd) streams[i] = streams[--stream_count];
            continue;
        }
        if (!next || connections[fd].next_ns < next) next = connections[fd].next_ns;
        i++;
    }
    struct itimerspec when = {.it_value = {.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int count, char **arguments) {
    if (count < 2) return fprintf(stderr, "usage: gateway_upstream PORT [PATH=JSON ...]\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    fixed = (const char **)arguments + 2;
    fixed_count = count - 2;
    for (int i = 0; i < ANSWER_WORDS; i++) strcat(answer, i ? " word" : "An");
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 1024))
        return perror("gateway_upstream"), 1;
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listening};
    epoll_ctl(poller, EPOLL_CTL_ADD, listening, &wanted);
    wanted.data.fd = timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &wanted);
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            uint64_t expired;
            if (fd == listening) take_connections(listening);
            else if (fd == timer) (void)!read(timer, &expired, sizeof expired);
            else if (connections[fd].open) {
                if (ready[i].events & EPOLLOUT) flush(fd);
                if (connections[fd].open && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_from(fd);
            }
        }
        if (stream_count) serve_streams();
    }
}
