/* The arithmetic of the encoder, compiled with what stands in _words.h and _shape.h: the same as in_numpy.py,
 * spelling.py and shape.py, which take over where it could not be compiled; arithmetic.py says what everything means.
 * Both give the same scores, bit for bit; so no reordering of additions and no fused multiply-add here
 * (-ffp-contract=off).
 *
 * A text of a few hundred characters has 50 to 200 keys. Each costs one visit to `slots`, where its hash is
 * looked up, and, where training knows it, one to its row: weights, scale and mass stand side by side in it,
 * so that a row is one line of the cache. Between two texts a program has other things in its caches. So all slots
 * of a text are asked for before the first is looked at, and all rows before the first is added: their ways from
 * memory then overlap. Keys are told apart by the upper bits of a hash of 64, all but those that count the rows,
 * and the lower ones say where to look; their text is not compared.
 *
 * Only the limited API of Python 3.11 is used: one build serves every later version.
 */
#include "_shape.h"

/* Of what arithmetic.py asks for; changed with it, since a build may be older than the sources beside it. */
enum { REVISION = 7 };

enum { MOST_COLUMNS = 256, LINE = 64, FIRST_TOKENS = 3, LAST_TOKENS = 2 };
enum { MOST_OF_ANY = 1 << 20 }; /* so that no size of memory overflows */
static const char EDGE = 1, FIRST = 2, LAST = 3; /* marks of keys that stand for a place */

static inline int is_place_mark(char c) { return c == EDGE || c == FIRST || c == LAST; }

#if defined(__GNUC__)
#define ASK_FOR(place) __builtin_prefetch(place)
#else
#define ASK_FOR(place) ((void)(place))
#endif

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
    int8_t told; /* whether the key is worth a reader's time */
    int8_t weights[];
} Row;

typedef struct {
    char *memory; /* as it was allocated; `first` is aligned */
    char *first;
    Py_ssize_t count;
    size_t stride;
} Rows;

static inline Row *row_at(const Rows *rows, Py_ssize_t at)
{
    return (Row *)(rows->first + (size_t)at * rows->stride);
}

/* Numbers from 1 on by the hash of a text, one for each: the upper bits of the hash, and the number in the lower
 * ones; 0 is empty. */
typedef struct {
    uint64_t *slots;
    uint64_t mask;
    uint64_t low;
} Index;

static int index_make(Index *index, size_t most, size_t highest)
{
    size_t size = 64;
    while (size < 2 * most)
        size *= 2;
    while (index->low < highest)
        index->low = index->low << 1 | 1;
    index->mask = size - 1;
    index->slots = calloc(size, sizeof *index->slots);
    return index->slots == NULL ? -1 : 0;
}

/* The number of a hash, or 0. */
static inline uint64_t index_find(const Index *index, uint64_t hash)
{
    for (uint64_t at = hash & index->mask;; at = (at + 1) & index->mask) {
        uint64_t slot = index->slots[at];
        if (slot == 0 || ((slot ^ hash) & ~index->low) == 0)
            return slot & index->low;
    }
}

static inline void index_ask(const Index *index, uint64_t hash) { ASK_FOR(&index->slots[hash & index->mask]); }

/* Whether the hash had no number; it has this one from now on. */
static int index_add(Index *index, uint64_t hash, uint64_t number)
{
    uint64_t at = hash & index->mask;
    for (; index->slots[at] != 0; at = (at + 1) & index->mask)
        if (((index->slots[at] ^ hash) & ~index->low) == 0)
            return 0;
    index->slots[at] = (hash & ~index->low) | number;
    return 1;
}

typedef struct {
    PyObject_HEAD
    Rows keys;
    Rows groups;
    Py_ssize_t columns;
    Index rows; /* of keys, counted from 1 */
    char *words; /* the vocabulary, a key after the other */
    uint32_t *ends; /* where the key of each row ends in `words` */
    Index rests; /* of common words: of each word and of what is left of it without one letter, its row from 1 on */
    Py_ssize_t least_letters; /* of a word in it, and the most */
    Py_ssize_t most_letters;
    float *shape_table; /* (FEATURES, columns) */
    PyObject *told; /* how each feature is told, "" for one that is not */
    double strange_mass;
    double middle;
    Py_ssize_t max_chars; /* of which a longer text is cut to its head, middle and tail */
    Py_ssize_t long_chars; /* from which on it has a head and a tail, of so many characters */
    Py_ssize_t end_chars;
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
    double norm;
    float mass;
    float group_mass;
    float *scores; /* (columns,) the sums, until `settle` */
    float *shape; /* (FEATURES,) */
    float *times; /* (count,) */
    int32_t *places; /* (count,) */
    float room[]; /* of all of them */
} Sums;

static PyTypeObject *sums_type;

static inline const char *key_at(const Table *table, Py_ssize_t row, Py_ssize_t *size)
{
    uint32_t begin = row > 0 ? table->ends[row - 1] : 0;
    *size = (Py_ssize_t)(table->ends[row] - begin);
    return table->words + begin;
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
    Py_ssize_t meant; /* the row of the word of which it is a slip, or -1 */
} Word;

/* A key of a text: where to look, then what was found. */
typedef struct {
    uint64_t hash;
    float times;
    int32_t row; /* or -1 */
} Key;

typedef struct {
    int32_t *slots; /* index plus one; 0 is empty */
    size_t size;
} Set;

/* Of this process alone, as Python's own hashes are: else a text could be written whose words all want the same
 * few slots. What is summed has the order of the text, whatever the slots. */
static uint64_t secret;

static size_t set_size(Py_ssize_t most)
{
    size_t size = 16;
    while (size < 2 * (size_t)most)
        size *= 2;
    return size;
}

/* Whether a row was not seen before; it is from now on. */
static int is_new(Set *set, int32_t row)
{
    size_t mask = set->size - 1, at = (size_t)finished((uint64_t)row) & mask;
    for (; set->slots[at] != 0; at = (at + 1) & mask)
        if (set->slots[at] == row + 1)
            return 0;
    set->slots[at] = row + 1;
    return 1;
}

/* ---- a text being read ---- */

/* `all` has the tokens of the head, then of the tail, then of the middle. Of a text that is read as a `whole`, the
 * tail is the head. */
typedef struct {
    Table *table;
    Token *all;
    Tokens head, tail, middle;
    int whole;
    PyObject *const *lists; /* the str of the tokens, where these came in lists of such sizes */
    const Py_ssize_t *sizes;
    void *memory; /* of all that follows */
    Key *keys; /* words first, in the order of `words` */
    Word *words; /* those at the ends first */
    Py_ssize_t key_count, distinct, at_ends;
    Set known, seen;
} Text;

static Py_ssize_t tokens_at_ends(const Text *text) { return text->head.count + (text->whole ? 0 : text->tail.count); }

static int text_make(Text *text)
{
    const Table *table = text->table;
    Py_ssize_t tokens = tokens_at_ends(text) + text->middle.count;
    Py_ssize_t keys = 2 * tokens + 2 * table->edge_tokens + FIRST_TOKENS + LAST_TOKENS;
    text->known.size = set_size(tokens + 1);
    text->seen.size = set_size(keys);
    text->memory = malloc((size_t)keys * sizeof(Key) + (size_t)(tokens + 1) * sizeof(Word)
                          + (text->known.size + text->seen.size) * sizeof(int32_t));
    if (text->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    text->keys = text->memory;
    text->words = (Word *)(text->keys + keys);
    text->known.slots = (int32_t *)(text->words + tokens + 1);
    text->seen.slots = text->known.slots + text->known.size;
    return 0;
}

static Word *word_of(Text *text, const Token *token, Py_ssize_t place)
{
    Set *set = &text->known;
    size_t mask = set->size - 1, at = (size_t)finished(token->hash ^ secret) & mask;
    for (; set->slots[at] != 0; at = (at + 1) & mask)
        if (text->words[set->slots[at] - 1].hash == token->hash)
            return &text->words[set->slots[at] - 1];
    Word *word = &text->words[text->distinct++];
    set->slots[at] = (int32_t)text->distinct;
    *word = (Word){token->hash, token, place, 0, -1};
    return word;
}

static void want(Text *text, uint64_t state, float times)
{
    uint64_t hash = finished(state);
    index_ask(&text->table->rows, hash);
    text->keys[text->key_count++] = (Key){hash, times, -1};
}

static void want_pairs(Text *text, Tokens tokens)
{
    for (Py_ssize_t i = 0; i + 1 < tokens.count; i++) {
        const Token *next = &tokens.first[i + 1];
        want(text, more(more(tokens.first[i].hash, " ", 1), next->bytes, next->size), 1.0f);
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

static void want_words(Text *text)
{
    const Table *table = text->table;
    Py_ssize_t ends = tokens_at_ends(text), tokens = ends + text->middle.count;
    for (Py_ssize_t i = 0; i < ends; i++)
        word_of(text, &text->all[i], i)->count++;
    text->at_ends = text->distinct;
    for (Py_ssize_t i = ends; i < tokens; i++) {
        Word *word = word_of(text, &text->all[i], i);
        if (word >= text->words + text->at_ends)
            word->count++;
    }
    for (Py_ssize_t i = 0; i < text->distinct; i++) {
        const Word *word = &text->words[i];
        Py_ssize_t times = least(word->count, table->most) + (i < text->at_ends ? 0 : table->most + 1);
        want(text, word->hash, table->times[times]);
    }
}

static void want_places(Text *text)
{
    Tokens head = text->head, tail = text->tail;
    uint64_t edge = more(START, &EDGE, 1);
    Py_ssize_t edges = text->table->edge_tokens;
    want_pairs(text, head);
    if (!text->whole)
        want_pairs(text, tail);
    for (Py_ssize_t i = 0; i < least(edges, head.count); i++)
        want(text, more(edge, head.first[i].bytes, head.first[i].size), 1.0f);
    for (Py_ssize_t i = tail.count - least(edges, tail.count); i < tail.count; i++)
        want(text, more(edge, tail.first[i].bytes, tail.first[i].size), 1.0f);
    for (Py_ssize_t n = 1; n <= FIRST_TOKENS; n++)
        want(text, joined(more(START, &FIRST, 1), head.first, least(n, head.count)), 1.0f);
    for (Py_ssize_t n = 1; n <= LAST_TOKENS; n++) {
        Py_ssize_t count = least(n, tail.count);
        want(text, joined(more(START, &LAST, 1), tail.first + (tail.count - count), count), 1.0f);
    }
}

/* Finds the keys; how many of them training knows. */
static Py_ssize_t look_up(Text *text)
{
    const Table *table = text->table;
    Py_ssize_t found = 0;
    text->key_count = text->distinct = 0;
    memset(text->known.slots, 0, (text->known.size + text->seen.size) * sizeof(int32_t));
    want_words(text);
    want_places(text);
    for (Py_ssize_t i = 0; i < text->key_count; i++) {
        Key *key = &text->keys[i];
        key->row = (int32_t)index_find(&table->rows, key->hash) - 1;
        if (key->row >= 0) {
            ASK_FOR(row_at(&table->keys, key->row));
            found++;
        }
    }
    return found;
}

/* ---- slips of the finger: spelling.py says what they are ---- */

/* The hash of a word without the letter from `at` to before `end`, `state` being that of what is before it. */
static inline uint64_t rest_of(uint64_t state, const char *word, Py_ssize_t size, Py_ssize_t end)
{
    return finished(more(state, word + end, size - end));
}

/* The row of the word that was meant, or -1. */
static Py_ssize_t meant_by(const Table *table, const char *word, Py_ssize_t size)
{
    if (size < table->least_letters || size > 4 * (table->most_letters + 1))
        return -1;
    Py_ssize_t letters = letters_in(word, size);
    if (letters < table->least_letters || letters > table->most_letters + 1)
        return -1;
    uint64_t state = START;
    for (Py_ssize_t at = -1, end = 0; end <= size; at = end, end = after_letter(word, size, end)) {
        uint64_t hash = at < 0 ? finished(more(START, word, size)) : rest_of(state, word, size, end);
        Py_ssize_t row = (Py_ssize_t)index_find(&table->rests, hash) - 1;
        if (row >= 0) {
            Py_ssize_t its;
            const char *known = key_at(table, row, &its);
            if (is_one_slip(word, size, known, its))
                return row;
        }
        if (at >= 0)
            state = more(state, word + at, end - at);
    }
    return -1;
}

/* Puts what was meant in the place of strange words at the ends; whether there were such. */
static int mend(Text *text)
{
    const Table *table = text->table;
    int mended = 0;
    for (Py_ssize_t i = 0; i < text->at_ends; i++) {
        Word *word = &text->words[i];
        if (text->keys[i].row < 0)
            word->meant = meant_by(table, word->token->bytes, word->token->size);
        mended |= word->meant >= 0;
    }
    for (Py_ssize_t i = 0; mended && i < tokens_at_ends(text); i++) {
        const Word *word = word_of(text, &text->all[i], i);
        if (word->meant >= 0) {
            Token *token = &text->all[i];
            token->bytes = key_at(table, word->meant, &token->size);
            token->hash = more(START, token->bytes, token->size);
        }
    }
    return mended;
}

/* ---- sums ---- */

static int append_word(PyObject *list, const Word *word, const Text *text)
{
    Py_ssize_t place = word->place;
    if (text->lists == NULL) {
        PyObject *found = PyUnicode_FromStringAndSize(word->token->bytes, word->token->size);
        if (found == NULL)
            return -1;
        int failed = PyList_Append(list, found);
        Py_DECREF(found);
        return failed;
    }
    for (int i = 0; i < 2; i++) {
        if (place < text->sizes[i])
            return PyList_Append(list, PyList_GetItem(text->lists[i], place));
        place -= text->sizes[i];
    }
    return -1;
}

static inline void add_row(float *total, const Row *row, Py_ssize_t columns, float times)
{
    float scale = row->scale;
    for (Py_ssize_t c = 0; c < columns; c++) {
        float share = (float)row->weights[c] * scale;
        share = share * times;
        total[c] += share;
    }
}

static void add_keys(Sums *sums, Text *text)
{
    const Table *table = text->table;
    for (Py_ssize_t i = 0; i < text->key_count; i++) {
        const Key *key = &text->keys[i];
        if (key->row < 0 || (i >= text->distinct && !is_new(&text->seen, key->row)))
            continue;
        const Row *row = row_at(&table->keys, key->row);
        float mass = row->mass * key->times;
        mass = mass * key->times;
        sums->mass += mass;
        add_row(sums->scores, row, table->columns, key->times);
        sums->places[sums->count] = key->row;
        sums->times[sums->count++] = key->times;
    }
}

/* Adds the letter groups of strange words. -1 with an exception. */
static int add_groups(Sums *sums, const Text *text)
{
    const Table *table = text->table;
    for (Py_ssize_t i = 0; i < text->at_ends; i++) {
        if (text->keys[i].row >= 0)
            continue;
        const Token *token = text->words[i].token;
        int32_t groups[MOST_GROUPS];
        Py_ssize_t count = groups_of(token->bytes, token->size, groups, (uint32_t)table->groups.count - 1);
        if (count < 0 || append_word(sums->strange, &text->words[i], text) < 0)
            return -1;
        for (Py_ssize_t k = 0; k < count; k++)
            ASK_FOR(row_at(&table->groups, groups[k]));
        for (Py_ssize_t k = 0; k < count; k++) {
            const Row *row = row_at(&table->groups, groups[k]);
            sums->group_mass += row->mass;
            add_row(sums->scores, row, table->columns, 1.0f);
        }
    }
    return 0;
}

/* From the sums to the scores, once the shape is known. */
static void settle(Sums *sums)
{
    const Table *table = sums->table;
    double mass = table->strange_mass * (double)PyList_Size(sums->strange) + (double)sums->mass
                  + (double)sums->group_mass;
    double norm = sqrt(mass);
    sums->norm = norm > 0.0 ? norm : 1.0;
    float length = (float)sums->norm;
    for (Py_ssize_t c = 0; c < table->columns; c++)
        sums->scores[c] /= length;
    for (Py_ssize_t f = 0; f < FEATURES; f++) {
        float value = sums->shape[f];
        if (value == 0.0f)
            continue;
        const float *row = table->shape_table + f * table->columns;
        for (Py_ssize_t c = 0; c < table->columns; c++) {
            float share = value * row[c];
            sums->scores[c] += share;
        }
    }
}

/* What the keys and the strange words of a text add up to. */
static Sums *read_text(Text *text)
{
    Table *table = text->table;
    if (text_make(text) < 0)
        return NULL;
    Py_ssize_t found = look_up(text);
    if (mend(text))
        found = look_up(text);
    Sums *sums = (Sums *)PyType_GenericAlloc(sums_type, table->columns + FEATURES + 2 * found);
    if (sums == NULL)
        goto failed;
    Py_INCREF((PyObject *)table);
    sums->table = table;
    sums->scores = sums->room;
    sums->shape = sums->scores + table->columns;
    sums->times = sums->shape + FEATURES;
    sums->places = (int32_t *)(sums->times + found);
    sums->strange = PyList_New(0);
    if (sums->strange == NULL)
        goto failed;
    add_keys(sums, text);
    if (add_groups(sums, text) < 0)
        goto failed;
    free(text->memory);
    return sums;
failed:
    free(text->memory);
    Py_XDECREF((PyObject *)sums);
    return NULL;
}

/* A text of more than `max_chars` is cut to as many at most: its head, its middle and its tail, a line each. */
static Py_ssize_t sample(const Table *table, const char *text, Py_ssize_t size, char *sampled)
{
    Py_ssize_t third = (table->max_chars - 2) / 3;
    const char *parts[] = {text, text + (size - third) / 2, text + size - third};
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            *sampled++ = '\n';
        memcpy(sampled, parts[i], (size_t)third);
        sampled += third;
    }
    return 3 * third + 2;
}

static PyObject *table_sums(Table *table, PyObject *ascii)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(ascii, &size);
    if (text == NULL)
        return NULL;
    if (size != PyUnicode_GetLength(ascii)) {
        PyErr_SetString(PyExc_ValueError, "not a text in ASCII");
        return NULL;
    }
    while (size > 0 && is_blank(text[size - 1]))
        size--;
    Py_ssize_t begin = after_blanks(text, size, 0), whole = size - begin;
    size = least(whole, table->max_chars);
    Token *all = malloc((size_t)(size + 1) * (sizeof *all + 2));
    if (all == NULL)
        return PyErr_NoMemory();
    char *room = (char *)(all + size + 1), *sampled = room + size + 1;
    if (whole > size)
        size = sample(table, text + begin, whole, sampled);
    text = whole > size ? sampled : text + begin;
    Py_ssize_t ends = size > table->long_chars ? table->end_chars : 0, head = ends > 0 ? ends : size;
    Text read = {.table = table, .all = all, .whole = ends == 0};
    read.head = (Tokens){all, tokens_of(table, text, head, all, room)};
    read.tail = read.head;
    if (ends > 0) {
        read.tail.first = all + read.head.count;
        read.tail.count = tokens_of(table, text + size - ends, ends, read.tail.first, room + ends);
        read.middle.first = read.tail.first + read.tail.count;
        read.middle.count = tokens_of(table, text + ends, size - 2 * ends, read.middle.first, room + 2 * ends);
    }
    Sums *sums = read_text(&read);
    if (sums != NULL && shape_of(text, size, sums->shape) < 0) {
        PyErr_NoMemory();
        Py_CLEAR(sums);
    }
    if (sums != NULL)
        settle(sums);
    free(all);
    return (PyObject *)sums;
}

static PyObject *table_sums_of(Table *table, PyObject *args)
{
    PyObject *lists[3];
    Py_buffer values;
    if (!PyArg_ParseTuple(args, "O!O!O!y*", &PyList_Type, &lists[0], &PyList_Type, &lists[1], &PyList_Type, &lists[2],
                          &values))
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
    if (values.len != FEATURES * (Py_ssize_t)sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "the shape has another number of features");
        goto done;
    }
    Text read = {.table = table, .all = all, .whole = whole, .lists = lists, .sizes = sizes};
    read.head = (Tokens){all, sizes[0]};
    read.tail = whole ? read.head : (Tokens){all + sizes[0], sizes[1]};
    read.middle = (Tokens){all + sizes[0] + sizes[1], sizes[2]};
    if (tokens_in(lists[0], all, kept) < 0 || (!whole && tokens_in(lists[1], read.tail.first, kept) < 0)
        || tokens_in(lists[2], read.middle.first, kept) < 0)
        goto done;
    Sums *sums = read_text(&read);
    if (sums != NULL) {
        memcpy(sums->shape, values.buf, (size_t)values.len);
        settle(sums);
    }
    found = (PyObject *)sums;
done:
    PyBuffer_Release(&values);
    Py_XDECREF(kept);
    free(all);
    return found;
}

static PyObject *sums_scores(Sums *sums, void *unused)
{
    (void)unused;
    PyObject *list = PyList_New(sums->table->columns);
    for (Py_ssize_t i = 0; list != NULL && i < sums->table->columns; i++) {
        PyObject *value = PyFloat_FromDouble((double)sums->scores[i]);
        if (value == NULL || PyList_SetItem(list, i, value) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *sums_logits(Sums *sums, PyObject *args)
{
    PyObject *columns;
    double heat;
    if (!PyArg_ParseTuple(args, "O!d", &PyTuple_Type, &columns, &heat))
        return NULL;
    Py_ssize_t count = PyTuple_Size(columns);
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        Py_ssize_t column = PyLong_AsSsize_t(PyTuple_GetItem(columns, i));
        PyObject *value = NULL;
        if (column >= 0 && column < sums->table->columns)
            value = PyFloat_FromDouble((double)sums->scores[column] / heat);
        else if (!PyErr_Occurred())
            PyErr_SetString(PyExc_IndexError, "there is no such column");
        if (value == NULL || PyList_SetItem(list, i, value) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* ---- what spoke for a column ---- */

typedef struct {
    double value;
    Py_ssize_t at; /* among the keys of the text; for a feature of its structure, -1 */
    const char *bytes;
    Py_ssize_t size;
} Told;

/* Strongest first; words as strong as each other in the order of the text, or by name. */
static int by_value(const void *left, const void *right)
{
    const Told *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? 1 : -1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int by_name(const void *left, const void *right)
{
    const Told *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? 1 : -1;
    int order = memcmp(a->bytes, b->bytes, (size_t)least(a->size, b->size));
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* Keys that speak for a column, each name once: up to `most` at the head of `told`, which has room for all. */
static Py_ssize_t tell_keys(const Sums *sums, Py_ssize_t column, Py_ssize_t first, Py_ssize_t last, Py_ssize_t most,
                            double least_share, Told *told)
{
    const Table *table = sums->table;
    Py_ssize_t found = 0, kept = 0;
    for (Py_ssize_t i = 0; i < sums->count; i++) {
        const Row *row = row_at(&table->keys, sums->places[i]);
        if (!row->told)
            continue;
        int32_t all = 0;
        for (Py_ssize_t c = first; c < last; c++)
            all += row->weights[c];
        float centre = (float)all / (float)(last - first);
        float share = (float)row->weights[column] - centre;
        share = share * row->scale;
        share = share * sums->times[i];
        if ((double)share > least_share)
            told[found++] = (Told){(double)share, i, NULL, 0};
    }
    qsort(told, (size_t)found, sizeof *told, by_value);
    for (Py_ssize_t i = 0; i < found && kept < most; i++) {
        Told one = told[i];
        int twice = 0;
        one.bytes = key_at(table, sums->places[one.at], &one.size);
        for (; is_place_mark(one.bytes[0]); one.bytes++)
            one.size--;
        for (Py_ssize_t k = 0; k < kept && !twice; k++)
            twice = is_same(one.bytes, one.size, told[k].bytes, told[k].size);
        one.value /= sums->norm;
        if (!twice)
            told[kept++] = one;
    }
    return kept;
}

/* Features of the structure that speak for it, behind what is there; how many there are then, or -1. */
static Py_ssize_t tell_shape(const Sums *sums, Py_ssize_t column, Py_ssize_t first, Py_ssize_t last,
                             double least_share, Told *told, Py_ssize_t count)
{
    const Table *table = sums->table;
    for (Py_ssize_t f = 0; f < FEATURES; f++) {
        if (sums->shape[f] == 0.0f)
            continue;
        Told one = {.at = -1};
        one.bytes = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(table->told, f), &one.size);
        if (one.bytes == NULL)
            return -1;
        const float *row = table->shape_table + f * table->columns;
        double all = 0.0;
        for (Py_ssize_t c = first; c < last; c++)
            all += (double)row[c];
        one.value = (double)sums->shape[f] * ((double)row[column] - all / (double)(last - first));
        if (one.size > 0 && one.value > least_share)
            told[count++] = one;
    }
    return count;
}

static PyObject *sums_telling(Sums *sums, PyObject *args)
{
    const Table *table = sums->table;
    Py_ssize_t column, first, last, most;
    double least_share;
    if (!PyArg_ParseTuple(args, "nnnnd", &column, &first, &last, &most, &least_share))
        return NULL;
    if (first < 0 || first >= last || last > table->columns || column < 0 || column >= table->columns) {
        PyErr_SetString(PyExc_IndexError, "there is no such column");
        return NULL;
    }
    Told *told = malloc((size_t)(sums->count + FEATURES + 1) * sizeof *told);
    if (told == NULL)
        return PyErr_NoMemory();
    PyObject *names = NULL;
    Py_ssize_t keys = tell_keys(sums, column, first, last, most, least_share * sums->norm, told);
    Py_ssize_t count = tell_shape(sums, column, first, last, least_share, told, keys);
    if (count > keys)
        qsort(told, (size_t)count, sizeof *told, by_name);
    if (count >= 0)
        names = PyTuple_New(least(count, most < 0 ? 0 : most));
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_Size(names); i++) {
        PyObject *name = PyUnicode_FromStringAndSize(told[i].bytes, told[i].size);
        if (name == NULL || PyTuple_SetItem(names, i, name) < 0)
            Py_CLEAR(names);
    }
    free(told);
    return names;
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

/* Numbers in half or single precision. */
static float number_at(const Py_buffer *numbers, int halves, Py_ssize_t at)
{
    float value;
    if (halves)
        return half((const char *)numbers->buf + 2 * at);
    memcpy(&value, (const char *)numbers->buf + at * (Py_ssize_t)sizeof value, sizeof value);
    return value;
}

static int rows_make(Rows *rows, Py_ssize_t columns, const Py_buffer *weights, const Py_buffer *scale,
                     const Py_buffer *mass)
{
    Py_ssize_t count = weights->len / columns;
    int halves = scale->len == 2 * count;
    size_t size = offsetof(Row, weights) + (size_t)columns, stride = 8;
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
        Row *row = row_at(rows, i);
        row->scale = number_at(scale, halves, i);
        row->mass = number_at(mass, halves, i);
        memcpy(row->weights, (const char *)weights->buf + i * columns, (size_t)columns);
    }
    return 0;
}

/* Whether a key is told: words are, marks and numbers are not. Numbers are read by their length, as zeros. */
static int is_told(const char *key, Py_ssize_t size)
{
    int letters = 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (key[i] == '0')
            return 0;
        letters |= (unsigned char)key[i] >= 0x80 || kind_of((unsigned char)key[i]) == LETTER;
    }
    return letters;
}

static int words_make(Table *table, const Py_buffer *vocabulary)
{
    Py_ssize_t keys = table->keys.count, at = 0;
    table->words = malloc((size_t)vocabulary->len + 1);
    table->ends = malloc((size_t)(keys + 1) * sizeof *table->ends);
    if (table->words == NULL || table->ends == NULL || index_make(&table->rows, (size_t)keys, (size_t)keys) < 0) {
        PyErr_NoMemory();
        return -1;
    }
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
        if (!index_add(&table->rows, finished(more(START, bytes, stop - bytes)), (uint64_t)row + 1)) {
            PyErr_SetString(PyExc_ValueError, "a key of the vocabulary occurs twice");
            return -1;
        }
        row_at(&table->keys, row)->told = (int8_t)is_told(bytes, stop - bytes);
        bytes = stop + 1;
    }
    return 0;
}

typedef struct {
    double rarity;
    const char *bytes;
    Py_ssize_t size;
    Py_ssize_t row;
} Common;

static int by_rarity(const void *left, const void *right)
{
    const Common *a = left, *b = right;
    if (a->rarity != b->rarity)
        return a->rarity < b->rarity ? -1 : 1;
    int order = memcmp(a->bytes, b->bytes, (size_t)least(a->size, b->size));
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* Common words by what is left of them; of two that leave the same the more usual one. */
static int rests_make(Table *table, const Py_buffer *idf, double common)
{
    Py_ssize_t keys = table->keys.count, count = 0, rests = 0;
    int halves = idf->len == 2 * keys;
    if (!halves && idf->len != keys * (Py_ssize_t)sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "the tables do not fit each other");
        return -1;
    }
    double most = -INFINITY;
    for (Py_ssize_t row = 0; row < keys; row++)
        most = fmax(most, (double)number_at(idf, halves, row));
    most -= common;
    Common *words = malloc((size_t)keys * sizeof *words);
    if (words == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t row = 0; row < keys; row++) {
        Common word = {.rarity = (double)number_at(idf, halves, row), .row = row};
        word.bytes = key_at(table, row, &word.size);
        Py_ssize_t letters = letters_in(word.bytes, word.size);
        if (!(word.rarity <= most) || letters < table->least_letters || is_place_mark(word.bytes[0])
            || memchr(word.bytes, ' ', (size_t)word.size) != NULL)
            continue;
        words[count++] = word;
        rests += letters + 1;
        if (letters > table->most_letters)
            table->most_letters = letters;
    }
    qsort(words, (size_t)count, sizeof *words, by_rarity);
    int failed = index_make(&table->rests, (size_t)rests, (size_t)keys);
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        const Common *word = &words[i];
        uint64_t state = START, number = (uint64_t)word->row + 1;
        index_add(&table->rests, rest_of(START, word->bytes, word->size, 0), number);
        for (Py_ssize_t at = 0, end; at < word->size; at = end) {
            end = after_letter(word->bytes, word->size, at);
            index_add(&table->rests, rest_of(state, word->bytes, word->size, end), number);
            state = more(state, word->bytes + at, end - at);
        }
    }
    free(words);
    if (failed)
        PyErr_NoMemory();
    return failed;
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
                            "shape_table", "idf", "told", "columns", "strange_mass", "middle", "most_times",
                            "edge_tokens", "digits", "common", "least_letters", "end_chars", "long_chars",
                            "max_chars", NULL};
    enum { BUFFERS = 9 };
    Py_buffer buffers[BUFFERS] = {{0}};
    Py_ssize_t columns, most, edges, digits, letters, ends, longest, sampled;
    double strange_mass, middle, common;
    PyObject *told;
    Table *table = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, named, "$y*y*y*y*y*y*y*y*y*O!nddnnndnnnn", names, &buffers[0], &buffers[1],
                                     &buffers[2], &buffers[3], &buffers[4], &buffers[5], &buffers[6], &buffers[7],
                                     &buffers[8], &PyTuple_Type, &told, &columns, &strange_mass, &middle, &most,
                                     &edges, &digits, &common, &letters, &ends, &longest, &sampled))
        return NULL;
    Py_ssize_t groups = columns < 1 ? 0 : buffers[4].len / columns;
    if (columns < 1 || columns > MOST_COLUMNS || most < 1 || most > MOST_OF_ANY || edges < 0
        || edges > MOST_OF_ANY || digits < 1 || digits > 16 || letters < 1 || groups < 1 || groups > MOST_OF_ANY
        || (groups & (groups - 1)) != 0 || (size_t)buffers[0].len >= UINT32_MAX || buffers[2].len == 0
        || PyTuple_Size(told) != FEATURES || buffers[7].len != FEATURES * columns * (Py_ssize_t)sizeof(float)
        || ends < 1 || ends > MOST_OF_ANY || longest < 2 * ends || longest > MOST_OF_ANY || sampled < longest
        || sampled > MOST_OF_ANY) {
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
    table->least_letters = letters;
    table->end_chars = ends;
    table->long_chars = longest;
    table->max_chars = sampled;
    Py_INCREF(told);
    table->told = told;
    table->shape_table = malloc((size_t)buffers[7].len + 1);
    if (table->shape_table == NULL) {
        PyErr_NoMemory();
        Py_CLEAR(table);
        goto done;
    }
    memcpy(table->shape_table, buffers[7].buf, (size_t)buffers[7].len);
    if (rows_make(&table->keys, columns, &buffers[1], &buffers[2], &buffers[3]) < 0
        || rows_make(&table->groups, columns, &buffers[4], &buffers[5], &buffers[6]) < 0
        || words_make(table, &buffers[0]) < 0 || rests_make(table, &buffers[8], common) < 0
        || times_make(table, most) < 0)
        Py_CLEAR(table);
done:
    for (int i = 0; i < BUFFERS; i++)
        PyBuffer_Release(&buffers[i]);
    return (PyObject *)table;
}

static void table_dealloc(Table *table)
{
    free(table->keys.memory);
    free(table->groups.memory);
    free(table->rows.slots);
    free(table->rests.slots);
    free(table->words);
    free(table->ends);
    free(table->shape_table);
    free(table->times);
    Py_XDECREF(table->told);
    freed((PyObject *)table);
}

static PyObject *table_key(Table *table, PyObject *row)
{
    Py_ssize_t at = PyLong_AsSsize_t(row), size;
    if (at < 0 || at >= table->keys.count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_IndexError, "there is no such key");
        return NULL;
    }
    const char *key = key_at(table, at, &size);
    return PyUnicode_FromStringAndSize(key, size);
}

static PyMethodDef table_methods[] = {
    {"sums", (PyCFunction)table_sums, METH_O, NULL},
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
    {"logits", (PyCFunction)sums_logits, METH_VARARGS, NULL},
    {"telling", (PyCFunction)sums_telling, METH_VARARGS, NULL},
    {"places", (PyCFunction)sums_places, METH_NOARGS, NULL},
    {"times", (PyCFunction)sums_times, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef sums_attributes[] = {
    {"strange", (getter)sums_strange, NULL, NULL, NULL},
    {"norm", (getter)sums_norm, NULL, NULL, NULL},
    {"scores", (getter)sums_scores, NULL, NULL, NULL},
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

/* ---- for what is read in Python ---- */

/* The features of the structure of a text in ASCII, into as many float32. */
static PyObject *shape(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *ascii;
    Py_buffer out;
    Py_ssize_t size;
    float values[FEATURES] = {0};
    int failed = 1;
    if (!PyArg_ParseTuple(args, "Uw*", &ascii, &out))
        return NULL;
    const char *text = PyUnicode_AsUTF8AndSize(ascii, &size);
    if (text != NULL && (size != PyUnicode_GetLength(ascii) || out.len != (Py_ssize_t)sizeof values))
        PyErr_SetString(PyExc_ValueError, "not a text in ASCII, or another number of features");
    else if (text != NULL && shape_of(text, size, values) < 0)
        PyErr_NoMemory();
    else if (text != NULL)
        failed = 0;
    if (!failed)
        memcpy(out.buf, values, sizeof values);
    PyBuffer_Release(&out);
    return failed ? NULL : Py_NewRef(Py_None);
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

static const double LEAST_CHANCE = 1e-6;

static PyObject *judged(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *names, *logits, *odds = NULL, *found = NULL;
    Py_buffer serves;
    double *chance = NULL, slope, offset, highest = -INFINITY, sum = 0.0;
    Py_ssize_t best = 0, likeliest = 0;
    if (!PyArg_ParseTuple(args, "O!O!y*dd", &PyTuple_Type, &names, &PyList_Type, &logits, &serves, &slope, &offset))
        return NULL;
    Py_ssize_t count = PyList_Size(logits);
    if (count < 1 || count > MOST_OF_ANY || PyTuple_Size(names) != count
        || serves.len != (int64_t)count * count * (int64_t)sizeof(double)) {
        PyErr_SetString(PyExc_ValueError, "as many log-odds as names, and as the table has rows and columns");
        goto done;
    }
    chance = calloc(2 * (size_t)count, sizeof *chance);
    if (chance == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    double *service = chance + count;
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
    odds = PyDict_New();
    if (odds == NULL)
        goto done;
    for (Py_ssize_t i = 0; i < count; i++) {
        chance[i] /= sum;
        if (chance[i] > chance[likeliest])
            likeliest = i;
        PyObject *one = PyFloat_FromDouble(chance[i]);
        int failed = one == NULL || PyDict_SetItem(odds, PyTuple_GetItem(names, i), one) < 0;
        Py_XDECREF(one);
        if (failed)
            goto done;
    }
    const char *next = serves.buf;
    for (Py_ssize_t row = 0; row < count; row++)
        for (Py_ssize_t column = 0; column < count; column++, next += sizeof(double)) {
            double one;
            memcpy(&one, next, sizeof one);
            service[column] += chance[row] * one;
        }
    for (Py_ssize_t column = 1; column < count; column++)
        if (service[column] > service[best])
            best = column;
    double lead = log(fmax(service[best], LEAST_CHANCE) / fmax(1.0 - service[best], LEAST_CHANCE));
    double sure = count > 1 ? 1.0 / (1.0 + exp(-(slope * lead + offset))) : 1.0;
    found = Py_BuildValue("OOdO", PyTuple_GetItem(names, best), PyTuple_GetItem(names, likeliest), sure, odds);
done:
    free(chance);
    Py_XDECREF(odds);
    PyBuffer_Release(&serves);
    return found;
}

static PyMethodDef functions[] = {
    {"judged", judged, METH_VARARGS, NULL},
    {"shape", shape, METH_VARARGS, NULL},
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
    crc_make();
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
