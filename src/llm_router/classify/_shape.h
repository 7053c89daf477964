/* What a text in ASCII looks like before a word of it is read: shape.py says what each feature means. */
#ifndef LLM_ROUTER_SHAPE
#define LLM_ROUTER_SHAPE

#include "_words.h"

enum { LENGTHS = 12, LINES = 5, PASSAGES = 4, BLOCKS = 5, HEADS = 3, ASKS = 2, SHARES = 5, FLAGS = 13 };
enum { FEATURES = LENGTHS + LINES + PASSAGES + BLOCKS + HEADS + ASKS + SHARES + FLAGS + 1 }; /* of shape.py */

static int has(const char *text, Py_ssize_t size, const char *part)
{
    Py_ssize_t length = (Py_ssize_t)strlen(part);
    for (const char *at = text; size - (at - text) >= length; at++) {
        at = memchr(at, part[0], (size_t)(size - (at - text)));
        if (at == NULL || size - (at - text) < length)
            return 0;
        if (memcmp(at, part, (size_t)length) == 0)
            return 1;
    }
    return 0;
}

static Py_ssize_t after_blanks(const char *text, Py_ssize_t size, Py_ssize_t at)
{
    while (at < size && is_blank(text[at]))
        at++;
    return at;
}

static Py_ssize_t before_blanks(const char *text, Py_ssize_t at)
{
    while (at >= 0 && is_blank(text[at]))
        at--;
    return at;
}

static int ends_in_question(const char *text, Py_ssize_t size)
{
    while (size > 0 && (is_blank(text[size - 1]) || strchr("\"')", text[size - 1]) != NULL) && text[size - 1] != 0)
        size--;
    return size > 0 && text[size - 1] == '?';
}

static int has_code_punctuation(const char *text, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i + 1 < size; i++) {
        char c = text[i], next = text[i + 1];
        if (c == '=' && (next == '>' || next == '='))
            return 1;
        if (c == ';' && next == '\n')
            return 1;
        if (c == ')' && next == ':' && i + 2 < size && text[i + 2] == '\n')
            return 1;
        if (c == '<' && next == '/' && i + 2 < size && is_word_character(text[i + 2]))
            return 1;
        if (next == '(' && is_word_character(c)) {
            Py_ssize_t at = i + 2;
            while (at < size && is_word_character(text[at]))
                at++;
            if (at < size && text[at] == ')')
                return 1;
        }
    }
    return 0;
}

static int has_mathematics(const char *text, Py_ssize_t size)
{
    Py_ssize_t dollar = -1; /* the last one on this line */
    for (Py_ssize_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '\\' && i + 2 < size && text[i + 1] >= 'a' && text[i + 1] <= 'z' && text[i + 2] >= 'a'
            && text[i + 2] <= 'z')
            return 1;
        if (c == '^' && i > 0 && i + 1 < size && is_word_character(text[i - 1]) && is_word_character(text[i + 1]))
            return 1;
        if (c == '\n')
            dollar = -1;
        if (c == '$') {
            if (dollar >= 0 && i - dollar > 1 && i - dollar <= 81)
                return 1;
            dollar = i;
        }
    }
    return 0;
}

static int has_equation(const char *text, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++) {
        if (text[i] != '=')
            continue;
        Py_ssize_t left = before_blanks(text, i - 1), right = after_blanks(text, size, i + 1);
        if (left >= 0 && is_word_character(text[left]) && right < size
            && (is_word_character(text[right]) || text[right] == '-' || text[right] == '('))
            return 1;
    }
    return 0;
}

static int has_arithmetic(const char *text, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++) {
        if (text[i] != '+' && text[i] != '-' && text[i] != '*' && text[i] != '/')
            continue;
        Py_ssize_t left = before_blanks(text, i - 1), right = after_blanks(text, size, i + 1);
        if (left >= 0 && is_digit(text[left]) && right < size && is_digit(text[right]))
            return 1;
    }
    return 0;
}

/* Bullet points, or the options of a multiple choice, at the beginning of a line. */
static int has_line_head(const char *text, Py_ssize_t size, int options)
{
    for (Py_ssize_t begin = 0; begin < size;) {
        Py_ssize_t at = after_blanks(text, size, begin);
        if (options) {
            if (at < size && text[at] == '(')
                at++;
            if (at + 2 < size && ((text[at] >= 'A' && text[at] <= 'D') || (text[at] >= 'a' && text[at] <= 'd'))
                && (text[at + 1] == ')' || text[at + 1] == '.' || text[at + 1] == ':') && is_blank(text[at + 2]))
                return 1;
        } else if (at + 1 < size && (text[at] == '-' || text[at] == '*') && is_blank(text[at + 1])) {
            return 1;
        }
        /* Empty lines before it lead to the same place. */
        const char *end = at < size ? memchr(text + at, '\n', (size_t)(size - at)) : NULL;
        if (end == NULL)
            return 0;
        begin = end - text + 1;
    }
    return 0;
}

static int has_quoted_text(const char *text, Py_ssize_t size)
{
    Py_ssize_t quote = -1;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (text[i] != '"')
            continue;
        if (quote >= 0 && i - quote > 12)
            return 1;
        quote = i;
    }
    return 0;
}

static int has_colon_before_text(const char *text, Py_ssize_t size)
{
    int first = 1;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (text[i] == '\n')
            first = 0;
        if (text[i] != ':')
            continue;
        Py_ssize_t at = after_blanks(text, size, i + 1);
        if (memchr(text + i, '\n', (size_t)(at - i)) != NULL)
            return 1;
        if (first && i >= 4 && i <= 80 && at > i + 1 && at + 60 < size
            && memchr(text + at + 1, '\n', 60) == NULL)
            return 1;
        first = 0;
    }
    return 0;
}

static const Py_ssize_t LENGTH_STEPS[LENGTHS] = {12, 25, 50, 90, 160, 300, 600, 1200, 2500, 6000, 12000, 36000};
static const Py_ssize_t LINE_STEPS[LINES] = {2, 4, 8, 20, 60}, PASSAGE_STEPS[PASSAGES] = {1, 2, 4, 8};
static const Py_ssize_t BLOCK_STEPS[BLOCKS] = {2, 3, 4, 6, 10}, HEAD_STEPS[HEADS] = {2, 4, 8};
enum { BLOCK_CHARS = 80, HEAD_CHARS = 5, LINE_CHARS = 20, LONG_CHARS = 600, QUESTION_CHARS = 250 };
enum { LAYOUT_CHARS = 24000, FLAG_CHARS = 3000, FLAG_END_CHARS = 500 };

static float *steps(float *values, Py_ssize_t count, const Py_ssize_t *from, Py_ssize_t number)
{
    for (Py_ssize_t i = 0; i < number; i++)
        values[i] = (float)(count >= from[i]);
    return values + number;
}

static Py_ssize_t after_digits(const char *text, Py_ssize_t size, Py_ssize_t at)
{
    while (at < size && is_digit(text[at]))
        at++;
    return at;
}

/* Where what begins a numbered passage at the head of this line ends, or 0. */
static Py_ssize_t after_passage(const char *text, Py_ssize_t size, Py_ssize_t at)
{
    static const char *const NAMES[] = {"document", "doc", "passage", "source", "context", "article", "excerpt", "text",
                                        "file", "snippet", "result", "reference", "abstract", "report", "page"};
    while (at < size
           && ((is_blank(text[at]) && text[at] != '\n') || (text[at] != 0 && strchr("#*>-", text[at]) != NULL)))
        at++;
    if (at < size && text[at] == '[') {
        Py_ssize_t end = after_digits(text, size, at + 1), digits = end - at - 1;
        return digits >= 1 && digits <= 3 && end < size && text[end] == ']' ? end + 1 : 0;
    }
    for (size_t name = 0; name < sizeof NAMES / sizeof *NAMES; name++) {
        Py_ssize_t length = (Py_ssize_t)strlen(NAMES[name]), same = 0;
        while (same < length && at + same < size && (text[at + same] | 32) == NAMES[name][same])
            same++;
        if (same < length)
            continue;
        Py_ssize_t number = after_blanks(text, size, at + length);
        if (number < size && (text[number] == '[' || text[number] == '(' || text[number] == '#'))
            number++;
        Py_ssize_t end = after_digits(text, size, number);
        if (end == number && end < size && (text[end] | 32) >= 'a' && (text[end] | 32) <= 'h')
            end++;
        return end > number && end - number <= 3 && (end == size || !is_word_character(text[end])) ? end : 0;
    }
    return 0;
}

static Py_ssize_t passages_in(const char *text, Py_ssize_t size)
{
    Py_ssize_t count = 0, at = 0;
    while (at < size) {
        Py_ssize_t end = after_passage(text, size, at);
        count += end > 0;
        const char *line = memchr(text + (end > 0 ? end : at), '\n', (size_t)(size - (end > 0 ? end : at)));
        if (line == NULL)
            break;
        at = line - text + 1;
    }
    return count;
}

/* Long ones of the blocks between empty lines. */
static Py_ssize_t blocks_in(const char *text, Py_ssize_t size)
{
    Py_ssize_t count = 0, begin = 0, at = 0;
    const char *line;
    while ((line = memchr(text + at, '\n', (size_t)(size - at))) != NULL) {
        Py_ssize_t end = line - text, last;
        at = after_blanks(text, size, end + 1);
        for (last = at - 1; text[last] != '\n'; last--)
            ;
        if (last > end) {
            count += end - begin >= BLOCK_CHARS;
            begin = last + 1;
        }
    }
    return count + (size - begin >= BLOCK_CHARS);
}

static int by_number(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* How a line begins, without capitals, and with one digit for a figure. */
static uint64_t head_of(const char *line)
{
    uint64_t head = 0;
    for (int i = 0; i < HEAD_CHARS; i++) {
        if (is_digit(line[i]) && i > 0 && is_digit(line[i - 1]))
            continue;
        char c = is_digit(line[i]) ? '0' : line[i] >= 'A' && line[i] <= 'Z' ? (char)(line[i] | 32) : line[i];
        head = head << 8 | (uint64_t)(unsigned char)(c + 1); /* so that no character is nothing */
    }
    return head;
}

/* Of a text of several lines that neither begins nor ends with a blank. -1 where there is no memory. */
static int layout(const char *text, Py_ssize_t size, float *values)
{
    Py_ssize_t looked_at = least(size, LAYOUT_CHARS), lines = 0, long_lines = 0, alike = 0, run = 0;
    int first = -1, last = 0;
    uint64_t *heads = malloc(((size_t)looked_at / LINE_CHARS + 1) * sizeof *heads);
    if (heads == NULL)
        return -1;
    for (Py_ssize_t begin = 0, end; begin <= looked_at; begin = end + 1, lines++) {
        const char *line = memchr(text + begin, '\n', (size_t)(looked_at - begin));
        end = line == NULL ? looked_at : line - text;
        Py_ssize_t from = after_blanks(text, end, begin);
        if (from == end)
            continue; /* or each of many empty lines would go back to the first */
        Py_ssize_t to = before_blanks(text, end - 1) + 1;
        if (to - from >= LINE_CHARS)
            heads[long_lines++] = head_of(text + from);
        last = text[to - 1] == '?' && to - from <= QUESTION_CHARS;
        if (first < 0)
            first = last;
    }
    qsort(heads, (size_t)long_lines, sizeof *heads, by_number);
    for (Py_ssize_t i = 0; i < long_lines; i++) {
        run = i > 0 && heads[i] == heads[i - 1] ? run + 1 : 1;
        alike = run > alike ? run : alike;
    }
    free(heads);
    values = steps(values, lines, LINE_STEPS, LINES);
    values = steps(values, passages_in(text, size), PASSAGE_STEPS, PASSAGES);
    values = steps(values, blocks_in(text, size), BLOCK_STEPS, BLOCKS);
    values = steps(values, alike, HEAD_STEPS, HEADS);
    values[0] = (float)(size >= LONG_CHARS && first > 0);
    values[1] = (float)(size >= LONG_CHARS && last);
    return 0;
}

/* The shares of kinds of characters, and the flags. */
static void mark(const char *text, Py_ssize_t size, float *values)
{
    Py_ssize_t digits = 0, capitals = 0, symbols = 0;
    uint8_t seen[128] = {0};
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        seen[c & 127] = 1;
        digits += c >= '0' && c <= '9';
        capitals += c >= 'A' && c <= 'Z';
        symbols += c > 32 && kind_of(c) == MARK;
    }
    double all = (double)size;
    values[0] = (float)fmin(1.0, 4.0 * ((double)digits / all));
    values[1] = (float)fmin(1.0, 4.0 * ((double)symbols / all));
    values[2] = (float)fmin(1.0, 4.0 * ((double)capitals / all));
    float *flags = values + SHARES;
    if (seen['?']) {
        flags[0] = (float)ends_in_question(text, size);
        flags[1] = 1.0f;
    }
    flags[2] = (float)(seen['`'] && has(text, size, "```"));
    flags[3] = (float)(seen['{'] || seen['}']);
    flags[4] = (float)((seen['('] || seen['='] || (seen[';'] && has(text, size, ";\n"))
                        || (seen['<'] && has(text, size, "</")))
                       && has_code_punctuation(text, size));
    flags[5] = (float)((seen['\\'] || seen['$'] || seen['^']) && has_mathematics(text, size));
    flags[6] = (float)(seen['='] && has_equation(text, size));
    flags[7] = (float)((seen['+'] || seen['-'] || seen['*'] || seen['/']) && has_arithmetic(text, size));
    flags[8] = (float)((seen[':'] && (has(text, size, "http://") || has(text, size, "https://")))
                       || has(text, size, "www."));
    flags[9] = (float)(((seen['-'] && has(text, size, "- ")) || (seen['*'] && has(text, size, "* ")))
                       && has_line_head(text, size, 0));
    flags[10] = (float)(seen['\n'] && has_line_head(text, size, 1));
    flags[11] = (float)(seen['"'] && has_quoted_text(text, size));
    flags[12] = (float)(seen[':'] && has_colon_before_text(text, size));
}

/* The features of the structure of a text in ASCII, as shape.py gives them; `values` are zeros before. -1 where there
 * is no memory. */
static int shape_of(const char *text, Py_ssize_t size, float *values)
{
    while (size > 0 && is_blank(text[size - 1]))
        size--;
    Py_ssize_t begin = after_blanks(text, size, 0);
    text += begin;
    size -= begin;
    steps(values, size - 1, LENGTH_STEPS, LENGTHS);
    values[FEATURES - 1] = 1.0f;
    if (size == 0)
        return 0;
    if (memchr(text, '\n', (size_t)size) != NULL && layout(text, size, values + LENGTHS) < 0)
        return -1;
    values += FEATURES - 1 - FLAGS - SHARES;
    if (size <= FLAG_CHARS) {
        mark(text, size, values);
        return 0;
    }
    char both_ends[FLAG_CHARS + 1];
    memcpy(both_ends, text, FLAG_CHARS - FLAG_END_CHARS);
    both_ends[FLAG_CHARS - FLAG_END_CHARS] = '\n';
    memcpy(both_ends + FLAG_CHARS - FLAG_END_CHARS + 1, text + size - FLAG_END_CHARS, FLAG_END_CHARS);
    mark(both_ends, FLAG_CHARS + 1, values);
    return 0;
}

#endif
