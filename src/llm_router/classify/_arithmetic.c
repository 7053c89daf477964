/* The arithmetic of the encoder, compiled: the same as in_numpy.py and shape.py, which take over where this file
 * could not be compiled; arithmetic.py says what everything means. Both give the same scores, bit for bit; so no
 * reordering of additions and no fused multiply-add here (-ffp-contract=off).
 *
 * A text of a few hundred characters has 50 to 200 keys. Each costs one visit to `slots`, where its hash is
 * looked up, and, where training knows it, one to its row: weights, scale and mass stand side by side in it,
 * so that a row is one line of the cache. Keys are told apart by the upper bits of a hash of 64, all but those
 * that count the rows, and the lower ones say where to look; their text is not compared.
 *
 * Only the limited API of Python 3.11 is used: one build serves every later version.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Of what arithmetic.py asks for; changed with it, since a build may be older than the sources beside it. */
enum { REVISION = 5 };

enum { MOST_COLUMNS = 256, LINE = 64, FIRST_TOKENS = 3, LAST_TOKENS = 2 };
enum { MOST_OF_ANY = 1 << 20 }; /* so that no size of memory overflows */
static const char EDGE = 1, FIRST = 2, LAST = 3;

/* ---- hashing: FNV-1a, so that the hash of "a b" goes on from that of "a" ---- */

static const uint64_t START = 0xcbf29ce484222325u;

static inline uint64_t more(uint64_t hash, const char *bytes, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return hash;
}

static inline uint64_t finished(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ (hash >> 32);
}

/* ---- rows ---- */

typedef struct {
    float scale;
    float mass;
    int8_t weights[];
} Row;

typedef struct {
    char *memory; /* as it was allocated; `first` is aligned */
    char *first;
    Py_ssize_t count;
    size_t stride;
} Rows;

static inline const Row *row_at(const Rows *rows, Py_ssize_t at)
{
    return (const Row *)(rows->first + (size_t)at * rows->stride);
}

typedef struct {
    PyObject_HEAD
    Rows keys;
    Rows groups;
    Py_ssize_t columns;
    uint64_t *slots; /* the upper bits of a key's hash, and its row plus one in the lower ones; 0 is empty */
    uint64_t mask;
    uint64_t row_bits;
    char *words; /* the vocabulary, a key after the other */
    uint32_t *ends; /* where the key of each row ends in `words` */
    float *shape_table; /* (features, columns) */
    Py_ssize_t features;
    double strange_mass;
    double middle;
    Py_ssize_t edge_tokens;
    Py_ssize_t digits;
    float *times; /* what a word counts that stands once, twice, ... at the ends; then the same in the middle */
    Py_ssize_t most;
} Table;

typedef struct {
    PyObject_VAR_HEAD
    Table *table;
    PyObject *strange;
    Py_ssize_t count;
    int32_t *places;
    float *times;
    float mass;
    double norm;
    float total[]; /* (columns,) */
} Sums;

static PyTypeObject *sums_type;

static Py_ssize_t find(const Table *table, uint64_t state)
{
    uint64_t hash = finished(state), low = ((uint64_t)1 << table->row_bits) - 1;
    for (uint64_t at = hash & table->mask;; at = (at + 1) & table->mask) {
        uint64_t slot = table->slots[at];
        if (slot == 0)
            return -1;
        if (((slot ^ hash) & ~low) == 0)
            return (Py_ssize_t)(slot & low) - 1;
    }
}

/* ---- tokens ---- */

typedef struct {
    const char *bytes;
    Py_ssize_t size;
    uint64_t hash; /* the state after these bytes */
} Token;

typedef struct {
    Token *first;
    Py_ssize_t count;
} Tokens;

enum { BLANK, LETTER, DIGIT, MARK };

static inline int kind_of(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return LETTER;
    if (c >= '0' && c <= '9')
        return DIGIT;
    if (c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31))
        return BLANK;
    return MARK;
}

/* The tokens of ASCII text, as features.tokens gives them. `room` takes as many characters as the text has. */
static Py_ssize_t tokens_of(const Table *table, const char *text, Py_ssize_t size, Token *tokens, char *room)
{
    static const char ZEROS[] = "0000000000000000";
    Py_ssize_t count = 0, at = 0;
    while (at < size) {
        int kind = kind_of((unsigned char)text[at]);
        if (kind == BLANK || text[at] == '\'') {
            at++;
            continue;
        }
        char *begin = room;
        do {
            char c = text[at++];
            if (c != '\'')
                *room++ = (c >= 'A' && c <= 'Z') ? (char)(c + 32) : c;
        } while (kind != MARK && at < size
                 && (text[at] == '\'' || kind_of((unsigned char)text[at]) == kind));
        Token *token = &tokens[count++];
        token->bytes = begin;
        token->size = room - begin;
        if (kind == DIGIT) {
            token->bytes = ZEROS;
            token->size = token->size < table->digits ? token->size : table->digits;
        }
        token->hash = more(START, token->bytes, token->size);
    }
    return count;
}

/* Half a surrogate pair, which has no UTF-8 of its own. */
static const char *half_pair(Py_UCS4 c)
{
    static char halves[0x800][3];
    char *own = halves[c - 0xD800];
    own[0] = (char)0xED;
    own[1] = (char)(0x80 | (c >> 6 & 0x3F));
    own[2] = (char)(0x80 | (c & 0x3F));
    return own;
}

/* The tokens of a list of str; their bytes live as long as `list` and `kept` do. Half a surrogate pair is a
 * token by itself in every text; a text of them would take long if each were an exception first. */
static int tokens_in(PyObject *list, Token *tokens, PyObject *kept)
{
    Py_ssize_t count = PyList_Size(list);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *text = PyList_GetItem(list, i);
        Py_ssize_t size = PyUnicode_GetLength(text);
        Py_UCS4 c = size == 1 ? PyUnicode_ReadChar(text, 0) : 0;
        const char *bytes;
        if (c >= 0xD800 && c <= 0xDFFF) {
            bytes = half_pair(c);
            size = 3;
        } else if (size < 0 || (bytes = PyUnicode_AsUTF8AndSize(text, &size)) == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
                return -1;
            PyErr_Clear();
            PyObject *encoded = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
            if (encoded == NULL)
                return -1;
            int failed = PyList_Append(kept, encoded);
            Py_DECREF(encoded);
            if (failed)
                return -1;
            bytes = PyBytes_AsString(encoded);
            size = PyBytes_Size(encoded);
        }
        tokens[i].bytes = bytes;
        tokens[i].size = size;
        tokens[i].hash = more(START, bytes, size);
    }
    return 0;
}

/* ---- distinct words, and places that were seen ---- */

typedef struct {
    uint64_t hash;
    const Token *token;
    Py_ssize_t place; /* of the token in what was read; for a list, the way back to its str */
    Py_ssize_t count;
} Word;

typedef struct {
    int32_t *slots; /* index plus one; 0 is empty */
    size_t mask;
} Set;

/* Of this process alone, as Python's own hashes are: else a text could be written whose words all want the same
 * few slots. What is summed has the order of the text, whatever the slots. */
static uint64_t secret;

static int set_make(Set *set, Py_ssize_t most)
{
    size_t size = 16;
    while (size < 2 * (size_t)most)
        size *= 2;
    set->slots = calloc(size, sizeof *set->slots);
    set->mask = size - 1;
    return set->slots == NULL ? -1 : 0;
}

static Word *word_at(Set *set, Word *words, Py_ssize_t *count, const Token *token, Py_ssize_t place)
{
    size_t at = (size_t)finished(token->hash ^ secret) & set->mask;
    for (; set->slots[at] != 0; at = (at + 1) & set->mask)
        if (words[set->slots[at] - 1].hash == token->hash)
            return &words[set->slots[at] - 1];
    Word *word = &words[(*count)++];
    set->slots[at] = (int32_t)*count;
    *word = (Word){token->hash, token, place, 0};
    return word;
}

/* Whether a row was not seen before; it is from now on. */
static int is_new(Set *set, int32_t row)
{
    size_t at = (size_t)finished((uint64_t)row) & set->mask;
    for (; set->slots[at] != 0; at = (at + 1) & set->mask)
        if (set->slots[at] == row + 1)
            return 0;
    set->slots[at] = row + 1;
    return 1;
}

/* ---- sums ---- */

static void add(Sums *sums, Py_ssize_t place, float times)
{
    const Table *table = sums->table;
    const Row *row = row_at(&table->keys, place);
    float scale = row->scale, mass = row->mass * times;
    mass = mass * times;
    sums->mass += mass;
    for (Py_ssize_t c = 0; c < table->columns; c++) {
        float share = (float)row->weights[c] * scale;
        share = share * times;
        sums->total[c] += share;
    }
    sums->places[sums->count] = (int32_t)place;
    sums->times[sums->count++] = times;
}

static void add_place(Sums *sums, Set *seen, uint64_t state)
{
    Py_ssize_t place = find(sums->table, state);
    if (place >= 0 && is_new(seen, (int32_t)place))
        add(sums, place, 1.0f);
}

static void add_pairs(Sums *sums, Set *seen, Tokens tokens)
{
    for (Py_ssize_t i = 0; i + 1 < tokens.count; i++) {
        const Token *next = &tokens.first[i + 1];
        add_place(sums, seen, more(more(tokens.first[i].hash, " ", 1), next->bytes, next->size));
    }
}

static uint64_t joined(uint64_t state, const Token *tokens, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i > 0)
            state = more(state, " ", 1);
        state = more(state, tokens[i].bytes, tokens[i].size);
    }
    return state;
}

static inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) { return a < b ? a : b; }

static void add_places(Sums *sums, Set *seen, Tokens head, Tokens tail, int whole)
{
    uint64_t edge = more(START, &EDGE, 1);
    Py_ssize_t edges = sums->table->edge_tokens;
    add_pairs(sums, seen, head);
    if (!whole)
        add_pairs(sums, seen, tail);
    for (Py_ssize_t i = 0; i < least(edges, head.count); i++)
        add_place(sums, seen, more(edge, head.first[i].bytes, head.first[i].size));
    for (Py_ssize_t i = tail.count - least(edges, tail.count); i < tail.count; i++)
        add_place(sums, seen, more(edge, tail.first[i].bytes, tail.first[i].size));
    for (Py_ssize_t n = 1; n <= FIRST_TOKENS; n++)
        add_place(sums, seen, joined(more(START, &FIRST, 1), head.first, least(n, head.count)));
    for (Py_ssize_t n = 1; n <= LAST_TOKENS; n++) {
        Py_ssize_t count = least(n, tail.count);
        add_place(sums, seen, joined(more(START, &LAST, 1), tail.first + (tail.count - count), count));
    }
}

static int append_word(PyObject *list, const Word *word, PyObject *const *lists, const Py_ssize_t *sizes)
{
    Py_ssize_t place = word->place;
    if (lists == NULL) {
        PyObject *text = PyUnicode_FromStringAndSize(word->token->bytes, word->token->size);
        if (text == NULL)
            return -1;
        int failed = PyList_Append(list, text);
        Py_DECREF(text);
        return failed;
    }
    for (int i = 0; i < 2; i++) {
        if (place < sizes[i])
            return PyList_Append(list, PyList_GetItem(lists[i], place));
        place -= sizes[i];
    }
    return -1;
}

/* Everything that the tokens say. `all` has those of the head, then of the tail, then of the middle. Of a text
 * that is read as a `whole`, the tail is the head. */
static PyObject *summed(Table *table, Token *all, Tokens head, Tokens tail, Tokens middle, int whole,
                        PyObject *const *lists, const Py_ssize_t *sizes)
{
    Py_ssize_t ends = head.count + (whole ? 0 : tail.count), tokens = ends + middle.count;
    Py_ssize_t room = 2 * tokens + 2 * table->edge_tokens + FIRST_TOKENS + LAST_TOKENS;
    Set known = {0}, seen = {0};
    Word *words = NULL;
    Sums *sums = (Sums *)PyType_GenericAlloc(sums_type, table->columns);
    if (sums == NULL)
        return NULL;
    Py_INCREF((PyObject *)table);
    sums->table = table;
    sums->norm = 1.0;
    sums->strange = PyList_New(0);
    sums->places = malloc((size_t)room * sizeof *sums->places);
    sums->times = malloc((size_t)room * sizeof *sums->times);
    words = malloc((size_t)(tokens + 1) * sizeof *words);
    if (sums->strange == NULL)
        goto failed;
    if (sums->places == NULL || sums->times == NULL || words == NULL || set_make(&known, tokens + 1) < 0
        || set_make(&seen, room) < 0) {
        PyErr_NoMemory();
        goto failed;
    }
    Py_ssize_t distinct = 0, at_ends;
    for (Py_ssize_t i = 0; i < ends; i++)
        word_at(&known, words, &distinct, &all[i], i)->count++;
    at_ends = distinct;
    for (Py_ssize_t i = ends; i < tokens; i++) {
        Word *word = word_at(&known, words, &distinct, &all[i], i);
        if (word >= words + at_ends)
            word->count++;
    }
    for (Py_ssize_t i = 0; i < distinct; i++) {
        const Word *word = &words[i];
        Py_ssize_t place = find(table, word->hash);
        if (place >= 0)
            add(sums, place, table->times[least(word->count, table->most) + (i < at_ends ? 0 : table->most + 1)]);
        else if (i < at_ends && append_word(sums->strange, word, lists, sizes) < 0)
            goto failed;
    }
    add_places(sums, &seen, head, tail, whole);
    free(words);
    free(known.slots);
    free(seen.slots);
    return (PyObject *)sums;
failed:
    free(words);
    free(known.slots);
    free(seen.slots);
    Py_DECREF(sums);
    return NULL;
}

static PyObject *table_sums(Table *table, PyObject *args)
{
    PyObject *text;
    Py_ssize_t end_chars = 0, size;
    if (!PyArg_ParseTuple(args, "U|n", &text, &end_chars))
        return NULL;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (bytes == NULL)
        return NULL;
    if (size != PyUnicode_GetLength(text) || end_chars < 0 || end_chars > size / 2) {
        PyErr_SetString(PyExc_ValueError, "not a text in ASCII, or shorter than its ends");
        return NULL;
    }
    Token *all = malloc((size_t)(size + 1) * sizeof *all);
    char *room = malloc((size_t)size + 1);
    PyObject *found = NULL;
    if (all == NULL || room == NULL) {
        PyErr_NoMemory();
    } else if (end_chars == 0) {
        Tokens head = {all, tokens_of(table, bytes, size, all, room)};
        found = summed(table, all, head, head, (Tokens){NULL, 0}, 1, NULL, NULL);
    } else {
        Tokens head = {all, tokens_of(table, bytes, end_chars, all, room)};
        Tokens tail = {all + head.count, 0};
        tail.count = tokens_of(table, bytes + size - end_chars, end_chars, tail.first, room + end_chars);
        Tokens middle = {tail.first + tail.count, 0};
        middle.count = tokens_of(table, bytes + end_chars, size - 2 * end_chars, middle.first, room + 2 * end_chars);
        found = summed(table, all, head, tail, middle, 0, NULL, NULL);
    }
    free(all);
    free(room);
    return found;
}

static PyObject *table_sums_of(Table *table, PyObject *args)
{
    PyObject *lists[3];
    if (!PyArg_ParseTuple(args, "O!O!O!", &PyList_Type, &lists[0], &PyList_Type, &lists[1], &PyList_Type, &lists[2]))
        return NULL;
    int whole = lists[0] == lists[1];
    Py_ssize_t sizes[3] = {PyList_Size(lists[0]), whole ? 0 : PyList_Size(lists[1]), PyList_Size(lists[2])};
    Token *all = malloc((size_t)(sizes[0] + sizes[1] + sizes[2] + 1) * sizeof *all);
    PyObject *found = NULL, *kept = PyList_New(0);
    if (all == NULL || kept == NULL) {
        if (kept != NULL)
            PyErr_NoMemory();
        goto done;
    }
    Tokens head = {all, sizes[0]}, tail = head, middle = {all + sizes[0] + sizes[1], sizes[2]};
    if (!whole)
        tail = (Tokens){all + sizes[0], sizes[1]};
    if (tokens_in(lists[0], all, kept) == 0 && (whole || tokens_in(lists[1], tail.first, kept) == 0)
        && tokens_in(lists[2], middle.first, kept) == 0)
        found = summed(table, all, head, tail, middle, whole, lists, sizes);
done:
    Py_XDECREF(kept);
    free(all);
    return found;
}

/* The scores, once the letter groups of strange words and the structural features are known. */
static PyObject *sums_settle(Sums *sums, PyObject *args)
{
    const Table *table = sums->table;
    PyObject *groups;
    Py_buffer shape;
    if (!PyArg_ParseTuple(args, "O!y*", &PyList_Type, &groups, &shape))
        return NULL;
    PyObject *scores = NULL;
    float total[MOST_COLUMNS], group_mass = 0.0f;
    memcpy(total, sums->total, (size_t)table->columns * sizeof *total);
    if (shape.len != table->features * (Py_ssize_t)sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "the shape has another number of features");
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyList_Size(groups); i++) {
        Py_ssize_t at = PyLong_AsSsize_t(PyList_GetItem(groups, i));
        if (at < 0 || at >= table->groups.count) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_IndexError, "there is no such letter group");
            goto done;
        }
        const Row *row = row_at(&table->groups, at);
        float scale = row->scale;
        group_mass += row->mass;
        for (Py_ssize_t c = 0; c < table->columns; c++) {
            float share = (float)row->weights[c] * scale;
            total[c] += share;
        }
    }
    double mass = table->strange_mass * (double)PyList_Size(sums->strange) + (double)sums->mass + (double)group_mass;
    double norm = sqrt(mass);
    sums->norm = norm > 0.0 ? norm : 1.0;
    float length = (float)sums->norm;
    for (Py_ssize_t c = 0; c < table->columns; c++)
        total[c] /= length;
    for (Py_ssize_t f = 0; f < table->features; f++) {
        float value;
        memcpy(&value, (const char *)shape.buf + f * (Py_ssize_t)sizeof value, sizeof value);
        if (value == 0.0f)
            continue;
        const float *row = table->shape_table + f * table->columns;
        for (Py_ssize_t c = 0; c < table->columns; c++) {
            float share = value * row[c];
            total[c] += share;
        }
    }
    scores = PyList_New(table->columns);
    for (Py_ssize_t c = 0; scores != NULL && c < table->columns; c++) {
        PyObject *score = PyFloat_FromDouble((double)total[c]);
        if (score == NULL || PyList_SetItem(scores, c, score) < 0)
            Py_CLEAR(scores);
    }
done:
    PyBuffer_Release(&shape);
    return scores;
}

typedef struct {
    float value;
    int32_t at;
} Share;

static int by_share(const void *left, const void *right)
{
    const Share *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? 1 : -1;
    return a->at < b->at ? -1 : 1;
}

static PyObject *sums_strongest(Sums *sums, PyObject *args)
{
    const Table *table = sums->table;
    Py_ssize_t column, first, last, count = 0;
    double least_share;
    if (!PyArg_ParseTuple(args, "nnnd", &column, &first, &last, &least_share))
        return NULL;
    if (first < 0 || first >= last || last > table->columns || column < 0 || column >= table->columns) {
        PyErr_SetString(PyExc_IndexError, "there is no such column");
        return NULL;
    }
    Share *shares = malloc((size_t)(sums->count + 1) * sizeof *shares);
    if (shares == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < sums->count; i++) {
        const Row *row = row_at(&table->keys, sums->places[i]);
        int32_t all = 0;
        for (Py_ssize_t c = first; c < last; c++)
            all += row->weights[c];
        float centre = (float)all / (float)(last - first);
        float share = (float)row->weights[column] - centre;
        share = share * row->scale;
        share = share * sums->times[i];
        if ((double)share > least_share)
            shares[count++] = (Share){share, (int32_t)i};
    }
    qsort(shares, (size_t)count, sizeof *shares, by_share);
    PyObject *found = PyList_New(count);
    for (Py_ssize_t i = 0; found != NULL && i < count; i++) {
        PyObject *pair = Py_BuildValue("nd", (Py_ssize_t)sums->places[shares[i].at], (double)shares[i].value);
        if (pair == NULL || PyList_SetItem(found, i, pair) < 0)
            Py_CLEAR(found);
    }
    free(shares);
    return found;
}

static PyObject *sums_places(Sums *sums, PyObject *unused)
{
    (void)unused;
    return PyBytes_FromStringAndSize((const char *)sums->places, sums->count * (Py_ssize_t)sizeof *sums->places);
}

static PyObject *sums_times(Sums *sums, PyObject *unused)
{
    (void)unused;
    return PyBytes_FromStringAndSize((const char *)sums->times, sums->count * (Py_ssize_t)sizeof *sums->times);
}

static PyObject *sums_strange(Sums *sums, void *unused)
{
    (void)unused;
    Py_INCREF(sums->strange);
    return sums->strange;
}

static PyObject *sums_norm(Sums *sums, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(sums->norm);
}

static void freed(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static void sums_dealloc(Sums *sums)
{
    Py_XDECREF((PyObject *)sums->table);
    Py_XDECREF(sums->strange);
    free(sums->places);
    free(sums->times);
    freed((PyObject *)sums);
}

/* ---- the table itself ---- */

/* Half precision, little-endian (IEEE 754). */
static float half(const char *bytes)
{
    uint16_t bits = (uint16_t)((unsigned char)bytes[0] | (unsigned char)bytes[1] << 8);
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 0    ? ldexp((double)fraction, -24)
                  : exponent == 31 ? (fraction == 0 ? (double)INFINITY : (double)NAN)
                                   : ldexp((double)(fraction + 1024), exponent - 25);
    return (float)(bits >> 15 ? -size : size);
}

static int rows_make(Rows *rows, Py_ssize_t columns, const Py_buffer *weights, const Py_buffer *scale,
                     const Py_buffer *mass)
{
    Py_ssize_t count = weights->len / columns;
    int halves = scale->len == 2 * count;
    size_t size = sizeof(Row) + (size_t)columns, stride = 8;
    if (weights->len != count * columns || scale->len != mass->len
        || (!halves && scale->len != count * (Py_ssize_t)sizeof(float))) {
        PyErr_SetString(PyExc_ValueError, "the tables do not fit each other");
        return -1;
    }
    while (stride < size && stride < LINE)
        stride *= 2; /* a row that is shorter than a line does not stand in two */
    if (stride < size)
        stride = (size + LINE - 1) / LINE * LINE;
    rows->memory = calloc((size_t)count * stride + LINE, 1);
    if (rows->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    rows->first = rows->memory + (LINE - (uintptr_t)rows->memory % LINE) % LINE;
    rows->count = count;
    rows->stride = stride;
    for (Py_ssize_t i = 0; i < count; i++) {
        Row *row = (Row *)(rows->first + (size_t)i * stride);
        if (halves) {
            row->scale = half((const char *)scale->buf + 2 * i);
            row->mass = half((const char *)mass->buf + 2 * i);
        } else {
            memcpy(&row->scale, (const char *)scale->buf + i * (Py_ssize_t)sizeof(float), sizeof(float));
            memcpy(&row->mass, (const char *)mass->buf + i * (Py_ssize_t)sizeof(float), sizeof(float));
        }
        memcpy(row->weights, (const char *)weights->buf + i * columns, (size_t)columns);
    }
    return 0;
}

static int words_make(Table *table, const Py_buffer *vocabulary)
{
    Py_ssize_t keys = table->keys.count, at = 0;
    uint64_t size = 64;
    while (size < 2 * (uint64_t)keys)
        size *= 2;
    while (((uint64_t)1 << table->row_bits) <= (uint64_t)keys)
        table->row_bits++;
    table->mask = size - 1;
    table->slots = calloc(size, sizeof *table->slots);
    table->words = malloc((size_t)vocabulary->len + 1);
    table->ends = malloc((size_t)(keys + 1) * sizeof *table->ends);
    if (table->slots == NULL || table->words == NULL || table->ends == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    uint64_t low = ((uint64_t)1 << table->row_bits) - 1;
    const char *bytes = vocabulary->buf, *end = bytes + vocabulary->len;
    for (Py_ssize_t row = 0; row < keys; row++) {
        const char *stop = bytes > end ? NULL : memchr(bytes, '\n', (size_t)(end - bytes));
        if (stop == NULL)
            stop = end;
        if (bytes > end || (stop == end) != (row == keys - 1)) {
            PyErr_SetString(PyExc_ValueError, "the vocabulary has another number of keys");
            return -1;
        }
        if (stop == bytes) {
            PyErr_SetString(PyExc_ValueError, "a key of the vocabulary is empty");
            return -1;
        }
        memcpy(table->words + at, bytes, (size_t)(stop - bytes));
        at += stop - bytes;
        table->ends[row] = (uint32_t)at;
        uint64_t state = more(START, bytes, stop - bytes), hash = finished(state);
        if (find(table, state) >= 0) {
            PyErr_SetString(PyExc_ValueError, "a key of the vocabulary occurs twice");
            return -1;
        }
        uint64_t slot = hash & table->mask;
        while (table->slots[slot] != 0)
            slot = (slot + 1) & table->mask;
        table->slots[slot] = (hash & ~low) | (uint64_t)(row + 1);
        bytes = stop + 1;
    }
    return 0;
}

static int times_make(Table *table, Py_ssize_t most)
{
    table->most = most;
    table->times = malloc(2 * (size_t)(most + 1) * sizeof *table->times);
    if (table->times == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t n = 0; n <= most; n++) {
        double times = n == 0 ? 0.0 : 1.0 + log((double)n);
        table->times[n] = (float)times;
        table->times[most + 1 + n] = (float)(table->middle * times);
    }
    return 0;
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    static char *names[] = {"vocabulary", "table", "scale", "mass", "groups", "group_scale", "group_mass",
                            "shape_table", "columns", "strange_mass", "middle", "most_times", "edge_tokens",
                            "digits", NULL};
    Py_buffer buffers[8] = {{0}};
    Py_ssize_t columns, most, edges, digits;
    double strange_mass, middle;
    Table *table = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, named, "$y*y*y*y*y*y*y*y*nddnnn", names, &buffers[0], &buffers[1],
                                     &buffers[2], &buffers[3], &buffers[4], &buffers[5], &buffers[6], &buffers[7],
                                     &columns, &strange_mass, &middle, &most, &edges, &digits))
        return NULL;
    if (columns < 1 || columns > MOST_COLUMNS || most < 1 || most > MOST_OF_ANY || edges < 0
        || edges > MOST_OF_ANY || digits < 1 || digits > 16
        || buffers[0].len >= UINT32_MAX || buffers[2].len == 0
        || buffers[7].len % (columns * (Py_ssize_t)sizeof(float)) != 0) {
        PyErr_SetString(PyExc_ValueError, "a table that is empty, too large or of another width");
        goto done;
    }
    table = (Table *)PyType_GenericAlloc(type, 0);
    if (table == NULL)
        goto done;
    table->columns = columns;
    table->strange_mass = strange_mass;
    table->middle = middle;
    table->edge_tokens = edges;
    table->digits = digits;
    table->features = buffers[7].len / (columns * (Py_ssize_t)sizeof(float));
    table->shape_table = malloc((size_t)buffers[7].len + 1);
    if (table->shape_table == NULL) {
        PyErr_NoMemory();
        Py_CLEAR(table);
        goto done;
    }
    memcpy(table->shape_table, buffers[7].buf, (size_t)buffers[7].len);
    if (rows_make(&table->keys, columns, &buffers[1], &buffers[2], &buffers[3]) < 0
        || rows_make(&table->groups, columns, &buffers[4], &buffers[5], &buffers[6]) < 0
        || words_make(table, &buffers[0]) < 0 || times_make(table, most) < 0)
        Py_CLEAR(table);
done:
    for (int i = 0; i < 8; i++)
        PyBuffer_Release(&buffers[i]);
    return (PyObject *)table;
}

static void table_dealloc(Table *table)
{
    free(table->keys.memory);
    free(table->groups.memory);
    free(table->slots);
    free(table->words);
    free(table->ends);
    free(table->shape_table);
    free(table->times);
    freed((PyObject *)table);
}

static PyObject *table_key(Table *table, PyObject *row)
{
    Py_ssize_t at = PyLong_AsSsize_t(row);
    if (at < 0 || at >= table->keys.count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_IndexError, "there is no such key");
        return NULL;
    }
    uint32_t begin = at > 0 ? table->ends[at - 1] : 0;
    return PyUnicode_FromStringAndSize(table->words + begin, (Py_ssize_t)(table->ends[at] - begin));
}

static PyMethodDef table_methods[] = {
    {"sums", (PyCFunction)table_sums, METH_VARARGS, NULL},
    {"sums_of", (PyCFunction)table_sums_of, METH_VARARGS, NULL},
    {"key", (PyCFunction)table_key, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot table_slots[] = {
    {Py_tp_new, (void *)table_new},
    {Py_tp_dealloc, (void *)table_dealloc},
    {Py_tp_methods, table_methods},
    {0, NULL},
};
static PyType_Spec table_spec = {
    "llm_router.classify._arithmetic.KeyTable", sizeof(Table), 0, Py_TPFLAGS_DEFAULT, table_slots,
};

static PyMethodDef sums_methods[] = {
    {"settle", (PyCFunction)sums_settle, METH_VARARGS, NULL},
    {"strongest", (PyCFunction)sums_strongest, METH_VARARGS, NULL},
    {"places", (PyCFunction)sums_places, METH_NOARGS, NULL},
    {"times", (PyCFunction)sums_times, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef sums_attributes[] = {
    {"strange", (getter)sums_strange, NULL, NULL, NULL},
    {"norm", (getter)sums_norm, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot sums_slots[] = {
    {Py_tp_dealloc, (void *)sums_dealloc},
    {Py_tp_methods, sums_methods},
    {Py_tp_getset, sums_attributes},
    {0, NULL},
};
static PyType_Spec sums_spec = {
    "llm_router.classify._arithmetic.Sums",
    sizeof(Sums),
    sizeof(float),
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    sums_slots,
};

/* ---- what a text looks like: shape.py says what each mark means ---- */

static inline int is_blank(char c) { return kind_of((unsigned char)c) == BLANK; }

static inline int is_digit(char c) { return c >= '0' && c <= '9'; }

static inline int is_word_character(char c)
{
    int kind = kind_of((unsigned char)c);
    return kind == LETTER || kind == DIGIT || c == '_';
}

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

enum { SHARES = 5, FLAGS = 13 };

static PyObject *marks(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *ascii;
    Py_buffer out;
    Py_ssize_t offset, size, digits = 0, capitals = 0, symbols = 0;
    uint8_t seen[128] = {0};
    if (!PyArg_ParseTuple(args, "Uw*n", &ascii, &out, &offset))
        return NULL;
    const char *text = PyUnicode_AsUTF8AndSize(ascii, &size);
    if (text == NULL || size == 0 || size != PyUnicode_GetLength(ascii) || offset < 0
        || offset > out.len / (Py_ssize_t)sizeof(float) - (SHARES + FLAGS)) {
        if (text != NULL)
            PyErr_SetString(PyExc_ValueError, "not a text in ASCII, or no room for its marks");
        PyBuffer_Release(&out);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        seen[c] = 1;
        digits += c >= '0' && c <= '9';
        capitals += c >= 'A' && c <= 'Z';
        symbols += c > 32 && kind_of(c) == MARK;
    }
    double all = (double)size;
    float found[SHARES + FLAGS] = {
        (float)fmin(1.0, 4.0 * ((double)digits / all)),
        (float)fmin(1.0, 4.0 * ((double)symbols / all)),
        (float)fmin(1.0, 4.0 * ((double)capitals / all)),
    };
    float *flags = found + SHARES;
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
    memcpy((char *)out.buf + offset * (Py_ssize_t)sizeof(float), found, sizeof found);
    PyBuffer_Release(&out);
    Py_RETURN_NONE;
}

/* How many digits, capitals, symbols, letters of other scripts but Hangul, and Hangul are in UTF-32-LE. */
static PyObject *kinds(PyObject *module, PyObject *raw)
{
    (void)module;
    char *bytes;
    Py_ssize_t size, counts[7] = {0};
    if (PyBytes_AsStringAndSize(raw, &bytes, &size) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i + 4 <= size; i += 4) {
        const unsigned char *at = (const unsigned char *)bytes + i;
        uint32_t c = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        if (c < 0xC0)
            counts[c <= 32 ? 0 : c >= '0' && c <= '9' ? 2 : c >= 'A' && c <= 'Z' ? 3 : c >= 'a' && c <= 'z' ? 0 : 4]++;
        else if (c < 0x370)
            counts[0]++;
        else if (c >= 0xAC00 && c <= 0xD7A3)
            counts[6]++;
        else
            counts[c >= 0x2000 && c < 0x2E00 ? 4 : 5]++;
    }
    return Py_BuildValue("[nnnnn]", counts[2], counts[3], counts[4], counts[5], counts[6]);
}

/* Whether all of them are numbers; halves or singles. */
static PyObject *is_finite(PyObject *module, PyObject *args)
{
    (void)module;
    char *bytes;
    Py_ssize_t size;
    int halves, all = 1;
    if (!PyArg_ParseTuple(args, "y#p", &bytes, &size, &halves))
        return NULL;
    if (halves)
        for (Py_ssize_t i = 0; i + 2 <= size; i += 2)
            all &= ((unsigned char)bytes[i + 1] & 0x7C) != 0x7C;
    else
        for (Py_ssize_t i = 0; i + 4 <= size; i += 4) {
            float value;
            memcpy(&value, bytes + i, sizeof value);
            all &= isfinite(value) != 0;
        }
    return PyBool_FromLong(all);
}

/* ---- judging ---- */

static PyObject *judged(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *logits, *odds = NULL, *found = NULL;
    Py_buffer serves;
    double *chance = NULL, highest = -INFINITY, sum = 0.0, most = -INFINITY;
    Py_ssize_t best = 0;
    if (!PyArg_ParseTuple(args, "O!y*", &PyList_Type, &logits, &serves))
        return NULL;
    Py_ssize_t count = PyList_Size(logits);
    if (count < 1 || count > MOST_OF_ANY || serves.len != count * count * (Py_ssize_t)sizeof(double)) {
        PyErr_SetString(PyExc_ValueError, "as many log-odds as the table of services has rows and columns");
        goto done;
    }
    chance = malloc((size_t)count * sizeof *chance);
    if (chance == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        chance[i] = PyFloat_AsDouble(PyList_GetItem(logits, i));
        if (chance[i] == -1.0 && PyErr_Occurred())
            goto done;
        if (chance[i] > highest)
            highest = chance[i];
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        chance[i] = exp(chance[i] - highest);
        sum += chance[i];
    }
    odds = PyList_New(count);
    if (odds == NULL)
        goto done;
    for (Py_ssize_t i = 0; i < count; i++) {
        chance[i] /= sum;
        PyObject *one = PyFloat_FromDouble(chance[i]);
        if (one == NULL || PyList_SetItem(odds, i, one) < 0)
            goto done;
    }
    for (Py_ssize_t column = 0; column < count; column++) {
        double service = 0.0, one;
        for (Py_ssize_t row = 0; row < count; row++) {
            memcpy(&one, (const char *)serves.buf + (row * count + column) * (Py_ssize_t)sizeof one, sizeof one);
            service += chance[row] * one;
        }
        if (service > most) {
            most = service;
            best = column;
        }
    }
    found = Py_BuildValue("ndO", best, most, odds);
done:
    free(chance);
    Py_XDECREF(odds);
    PyBuffer_Release(&serves);
    return found;
}

static PyMethodDef functions[] = {
    {"judged", judged, METH_VARARGS, NULL},
    {"marks", marks, METH_VARARGS, NULL},
    {"kinds", kinds, METH_O, NULL},
    {"is_finite", is_finite, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_arithmetic", NULL, -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__arithmetic(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    PyObject *name = PyUnicode_FromString("llm_router.classify._arithmetic");
    secret = name == NULL ? 0 : (uint64_t)PyObject_Hash(name);
    Py_XDECREF(name);
    PyObject *table_type = name == NULL ? NULL : PyType_FromSpec(&table_spec);
    sums_type = (PyTypeObject *)PyType_FromSpec(&sums_spec);
    if (table_type == NULL || sums_type == NULL || PyModule_AddObjectRef(module, "KeyTable", table_type) < 0
        || PyModule_AddIntConstant(module, "REVISION", REVISION) < 0) {
        Py_XDECREF(table_type);
        Py_DECREF(module);
        return NULL;
    }
    Py_DECREF(table_type);
    return module;
}
