/* What is counted in a text before a word of it is read, compiled: tokens (tokens.py) and scripts
 * (classify/rules.py). They do the same where this file could not be compiled, and say what everything means. All counts
 * are whole numbers, prices too; so both come to the same.
 *
 * Only the limited API of Python 3.11 is used: one build serves every later version.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Of what is asked for (compiled.py); changed with it, since a build may be older than the sources beside it. */
enum { REVISION = 4 };

enum { BASIC_PLANE = 0x10000, COLUMNS = 6 };

/* ---- tokens: what a text has of each feature that has a price: run_features in tokens.py ---- */

#define FEATURES(F)                                                                                                   \
    F(word) F(word_beyond_3) F(word_beyond_5) F(word_beyond_8) F(word_beyond_12) F(word_with_accent) F(accent)        \
    F(extended_latin) F(rare_letter) F(joined_by_underscore)                                                          \
    F(capitals) F(capitals_unspaced) F(capitals_beyond_1) F(capitals_beyond_3) F(capitals_beyond_6)                   \
    F(capitals_beyond_10)                                                                                             \
    F(digits) F(digits_after_space) F(digit_beyond_first) F(digit_triples)                                            \
    F(punctuation) F(punctuation_after_space) F(punctuation_before_newline) F(punctuation_beyond_3) F(ruler)          \
    F(single_space) F(indentation) F(indentation_beyond_16) F(newline) F(newline_beyond_first) F(tab)                 \
    F(tab_beyond_first)                                                                                               \
    F(hangul_run) F(hangul_after_space) F(hangul_frequent) F(hangul_listed) F(hangul_rare)                            \
    F(jamo) F(jamo_beyond_first)                                                                                      \
    F(ideographs_run) F(ideographs_after_space) F(han_frequent) F(han_listed) F(han_rare) F(hiragana) F(katakana)     \
    F(cyrillic_run) F(cyrillic_letter) F(cyrillic_beyond_10) F(greek_run) F(greek_letter) F(arabic_run)               \
    F(arabic_letter) F(hebrew_run) F(hebrew_letter) F(devanagari_run) F(devanagari_letter) F(southern_indic_run)      \
    F(southern_indic_letter) F(thai_run) F(thai_letter)                                                               \
    F(box_drawing) F(box_drawing_beyond_first)                                                                        \
    F(general_punctuation) F(cjk_punctuation) F(symbol) F(joiner) F(emoji) F(newer_emoji) F(astral) F(other)

#define AS_MEMBER(name) int64_t name;
#define AS_WORD(name) #name,

typedef struct {
    FEATURES(AS_MEMBER)
} Amounts;

static const char *const names[] = {FEATURES(AS_WORD)};

enum { FEATURE_COUNT = sizeof names / sizeof *names };

/* ---- runs; characters are known by the letter of their class ---- */

enum { END, EMOJI, NEWER_EMOJI, ASTRAL }; /* those beyond the basic plane have no letter */

static unsigned char class_beyond(Py_UCS4 c)
{
    if (c >= 0x1F000 && c < 0x1F900)
        return EMOJI;
    return c >= 0x1F900 && c < 0x1FB00 ? NEWER_EMOJI : ASTRAL;
}

static inline int is_small(unsigned char c) { return c == 'a' || c == 'e' || c == 'z' || c == 'v'; }

static inline int64_t beyond(Py_ssize_t limit, Py_ssize_t size) { return size > limit ? size - limit : 0; }

/* How many of one class stand here, no more than `most`. */
static inline Py_ssize_t length(const unsigned char *at, Py_ssize_t most)
{
    Py_ssize_t size = 1;
    while (size < most && at[size] == at[0])
        size++;
    return size;
}

/* Small letters, and a capital before them or not. */
static Py_ssize_t add_word(const unsigned char *at, Amounts *amounts)
{
    Py_ssize_t capital = at[0] == 'A', size = capital, accents = 0;
    for (; size < capital + 32 && is_small(at[size]); size++) {
        accents += at[size] == 'e';
        amounts->extended_latin += at[size] == 'v';
        amounts->rare_letter += at[size] == 'z';
    }
    amounts->word++;
    amounts->word_beyond_3 += beyond(3, size);
    amounts->word_beyond_5 += beyond(5, size);
    amounts->word_beyond_8 += beyond(8, size);
    amounts->word_beyond_12 += beyond(12, size);
    amounts->word_with_accent += accents > 0;
    amounts->accent += accents;
    return size;
}

/* The last capital before a small letter begins that word. */
static Py_ssize_t add_capitals(const unsigned char *at, int spaced, Amounts *amounts)
{
    Py_ssize_t size = length(at, 32);
    size -= is_small(at[size]);
    amounts->capitals++;
    amounts->capitals_unspaced += !spaced;
    amounts->capitals_beyond_1 += beyond(1, size);
    amounts->capitals_beyond_3 += beyond(3, size);
    amounts->capitals_beyond_6 += beyond(6, size);
    amounts->capitals_beyond_10 += beyond(10, size);
    return size;
}

static Py_ssize_t add_letters(const unsigned char *at, int spaced, Amounts *amounts)
{
    return is_small(at[0]) || is_small(at[1]) ? add_word(at, amounts) : add_capitals(at, spaced, amounts);
}

static Py_ssize_t add_digits(const unsigned char *at, int spaced, Amounts *amounts)
{
    Py_ssize_t size = length(at, 12);
    amounts->digits++;
    amounts->digits_after_space += spaced;
    amounts->digit_beyond_first += size - 1;
    amounts->digit_triples += (size - 1) / 3;
    return size;
}

/* Marks and the end of the line behind them; only those behind an underscore may have more underscores. */
static Py_ssize_t add_punctuation(const unsigned char *at, int spaced, Amounts *amounts)
{
    Py_ssize_t size = 0, lines = 0;
    for (; size < 16 && (at[size] == '.' || at[size] == '-' || (at[size] == '_' && at[0] == '_')); size++)
        lines += at[size] != '.';
    int is_ruler = size > 3 && lines == size;
    int ends_line = at[size] == '\n' && !(size == 1 && at[0] == '_');
    amounts->punctuation++;
    amounts->punctuation_after_space += spaced;
    amounts->punctuation_before_newline += ends_line;
    *(is_ruler ? &amounts->ruler : &amounts->punctuation_beyond_3) += beyond(3, size);
    return size + ends_line;
}

static Py_ssize_t add_hangul(const unsigned char *at, int spaced, Amounts *amounts)
{
    Py_ssize_t size = 0;
    for (; size < 8 && (at[size] == 'H' || at[size] == 'g' || at[size] == 'h'); size++) {
        amounts->hangul_frequent += at[size] == 'H';
        amounts->hangul_listed += at[size] == 'g';
        amounts->hangul_rare += at[size] == 'h';
    }
    amounts->hangul_run++;
    amounts->hangul_after_space += spaced;
    return size;
}

static Py_ssize_t add_ideographs(const unsigned char *at, int spaced, Amounts *amounts)
{
    Py_ssize_t size = 0;
    for (; size < 8; size++) {
        switch (at[size]) {
        case 'C': amounts->han_frequent++; continue;
        case 'c': amounts->han_listed++; continue;
        case 'x': amounts->han_rare++; continue;
        case 'K': amounts->hiragana++; continue;
        case 'k': amounts->katakana++; continue;
        }
        break;
    }
    amounts->ideographs_run++;
    amounts->ideographs_after_space += spaced;
    return size;
}

static Py_ssize_t add_script(const unsigned char *at, Py_ssize_t most, int64_t *runs, int64_t *letters)
{
    Py_ssize_t size = length(at, most);
    ++*runs;
    *letters += size;
    return size;
}

static Py_ssize_t add_repeated(const unsigned char *at, Py_ssize_t most, int64_t *first, int64_t *beyond_first)
{
    Py_ssize_t size = length(at, most);
    ++*first;
    *beyond_first += size - 1;
    return size;
}

/* The run that begins here, behind a space where `spaced`; how long it is, the space not counted. 0: what stands
 * here takes no space, which is a run of its own then. */
static Py_ssize_t add_run(const unsigned char *at, int spaced, Amounts *amounts)
{
    Py_ssize_t size;
    switch (at[0]) {
    case 'a': case 'e': case 'z': case 'v': case 'A':
        return add_letters(at, spaced, amounts);
    case '_':
        if (!spaced && (is_small(at[1]) || at[1] == 'A')) {
            amounts->joined_by_underscore++;
            return 1 + add_letters(at + 1, spaced, amounts);
        }
        return add_punctuation(at, spaced, amounts);
    case '.': case '-':
        return add_punctuation(at, spaced, amounts);
    case '0':
        return add_digits(at, spaced, amounts);
    case 'H': case 'g': case 'h':
        return add_hangul(at, spaced, amounts);
    case 'C': case 'c': case 'x': case 'K': case 'k':
        return add_ideographs(at, spaced, amounts);
    case 'j':
        return add_repeated(at, 8, &amounts->jamo, &amounts->jamo_beyond_first);
    case 'R':
        size = add_script(at, 20, &amounts->cyrillic_run, &amounts->cyrillic_letter);
        amounts->cyrillic_beyond_10 += beyond(10, size);
        return size;
    case 'G': return add_script(at, 16, &amounts->greek_run, &amounts->greek_letter);
    case 'W': return add_script(at, 16, &amounts->arabic_run, &amounts->arabic_letter);
    case 'B': return add_script(at, 16, &amounts->hebrew_run, &amounts->hebrew_letter);
    case 'D': return add_script(at, 16, &amounts->devanagari_run, &amounts->devanagari_letter);
    case 'I': return add_script(at, 16, &amounts->southern_indic_run, &amounts->southern_indic_letter);
    case 'T': return add_script(at, 16, &amounts->thai_run, &amounts->thai_letter);
    }
    if (spaced) {
        amounts->single_space++;
        return 0;
    }
    switch (at[0]) {
    case '\n': return add_repeated(at, 8, &amounts->newline, &amounts->newline_beyond_first);
    case '\t': return add_repeated(at, 8, &amounts->tab, &amounts->tab_beyond_first);
    case 'b': return add_repeated(at, 16, &amounts->box_drawing, &amounts->box_drawing_beyond_first);
    case 'Q': amounts->general_punctuation++; return 1;
    case 'P': amounts->cjk_punctuation++; return 1;
    case 'S': amounts->symbol++; return 1;
    case 'Z': amounts->joiner++; return 1;
    case EMOJI: amounts->emoji++; return 1;
    case NEWER_EMOJI: amounts->newer_emoji++; return 1;
    case ASTRAL: amounts->astral++; return 1;
    default: amounts->other++; return 1;
    }
}

/* Spaces, all but the last one, which belongs to what follows. */
static Py_ssize_t add_indentation(const unsigned char *at, Amounts *amounts)
{
    Py_ssize_t size = 0;
    while (size < 63 && at[size + 1] == ' ')
        size++;
    if (size == 1) {
        amounts->single_space++;
    } else if (size > 1) {
        amounts->indentation++;
        amounts->indentation_beyond_16 += (size - 1) / 16;
    }
    return size;
}

static void add_runs(const unsigned char *at, Amounts *amounts)
{
    while (*at != END) {
        if (*at == ' ') {
            Py_ssize_t indented = add_indentation(at, amounts);
            at += indented;
            if (indented == 63)
                continue;
            at++;
            at += add_run(at, 1, amounts);
        } else {
            at += add_run(at, 0, amounts);
        }
    }
}

/* How often ENGLISH_PAIRS of tokens.py occur. */
static Py_ssize_t english_pairs(const Py_UCS4 *text, Py_ssize_t size)
{
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 1; i < size; i++) {
        Py_UCS4 before = text[i - 1];
        switch (text[i]) {
        case 'h': count += before == 't' || before == 's'; break;
        case 'u': case 'w': count += before == 'o'; break;
        case 'a': count += before == 'e'; break;
        case 'g': count += before == 'n' && i > 1 && text[i - 2] == 'i'; break;
        }
    }
    return count;
}

/* ---- what that costs, and within which bounds: _credited and _bounded in tokens.py ---- */

typedef struct {
    int64_t prices[COLUMNS]; /* mean, low and high of the large family, then of the small one, in millionths */
    Py_ssize_t english;
} Price;

enum { FAMILIES = 2, OF_FAMILY = COLUMNS / FAMILIES };

typedef struct {
    double english_credit[COLUMNS];
    double chance[FAMILIES][2];
    double unlike;
    double extra_tokens;
} Terms;

static int price_of(PyObject *text, const Py_buffer *classes, const Py_buffer *prices, Price *price)
{
    if (classes->len != BASIC_PLANE || prices->len != (Py_ssize_t)(FEATURE_COUNT * COLUMNS * sizeof(int32_t))) {
        PyErr_SetString(PyExc_ValueError, "a class for each character and six prices for each feature");
        return -1;
    }
    Py_ssize_t size = PyUnicode_GetLength(text);
    Py_UCS4 *characters = PyUnicode_AsUCS4Copy(text);
    if (characters == NULL)
        return -1;
    *price = (Price){{0}, english_pairs(characters, size)};
    const unsigned char *letters = classes->buf;
    unsigned char *shape = (unsigned char *)characters; /* takes the room of the characters, one after the other */
    for (Py_ssize_t i = 0; i < size; i++) {
        Py_UCS4 c = characters[i];
        shape[i] = c < BASIC_PLANE ? letters[c] : class_beyond(c);
    }
    shape[size] = END;
    union {
        Amounts by_name;
        int64_t each[FEATURE_COUNT];
    } amounts = {{0}};
    add_runs(shape, &amounts.by_name);
    for (Py_ssize_t feature = 0; feature < FEATURE_COUNT; feature++) {
        if (amounts.each[feature] == 0)
            continue;
        int32_t row[COLUMNS];
        memcpy(row, (const char *)prices->buf + feature * (Py_ssize_t)sizeof row, sizeof row);
        for (int column = 0; column < COLUMNS; column++)
            price->prices[column] += amounts.each[feature] * row[column];
    }
    PyMem_Free(characters);
    return 0;
}

static double credited(const Price *price, const Terms *terms, int column)
{
    double tokens = (double)price->prices[column] / 1e6, most = 0.3 * tokens;
    double earned = terms->english_credit[column] * (double)price->english;
    return tokens - (earned < most ? earned : most);
}

static PyObject *bounded(const Price *price, const Terms *terms, int family)
{
    int column = family * OF_FAMILY;
    double low = credited(price, terms, column + 1), high = credited(price, terms, column + 2);
    double middle = fmax(1.0, rint(credited(price, terms, column)));
    double lower = floor(low * (1 - terms->unlike) - terms->chance[family][0] * sqrt(low));
    double upper = ceil(high * (1 + terms->unlike) + terms->chance[family][1] * sqrt(high) + terms->extra_tokens);
    return Py_BuildValue("LLL", (long long)middle, (long long)fmax(1.0, fmin(middle, lower)),
                         (long long)fmax(middle, upper));
}

static PyObject *priced(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *text, *found = NULL;
    Py_buffer classes, prices;
    Price price;
    if (!PyArg_ParseTuple(args, "Uy*y*", &text, &classes, &prices))
        return NULL;
    if (price_of(text, &classes, &prices, &price) == 0) {
        const int64_t *p = price.prices;
        found = Py_BuildValue("LLLLLLn", (long long)p[0], (long long)p[1], (long long)p[2], (long long)p[3],
                              (long long)p[4], (long long)p[5], price.english);
    }
    PyBuffer_Release(&classes);
    PyBuffer_Release(&prices);
    return found;
}

static PyObject *estimates(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *text, *found = NULL;
    Py_buffer classes, prices, wanted;
    Price price;
    Terms terms;
    if (!PyArg_ParseTuple(args, "Uy*y*y*", &text, &classes, &prices, &wanted))
        return NULL;
    if (wanted.len != (Py_ssize_t)sizeof terms) {
        PyErr_SetString(PyExc_ValueError, "credits, chances, share and extra tokens in float64");
    } else if (price_of(text, &classes, &prices, &price) == 0) {
        memcpy(&terms, wanted.buf, sizeof terms);
        PyObject *large = bounded(&price, &terms, 0), *small = bounded(&price, &terms, 1);
        if (large != NULL && small != NULL)
            found = PyTuple_Pack(2, large, small);
        Py_XDECREF(large);
        Py_XDECREF(small);
    }
    PyBuffer_Release(&classes);
    PyBuffer_Release(&prices);
    PyBuffer_Release(&wanted);
    return found;
}

/* ---- scripts: script_language in classify/rules.py ---- */

enum { SCRIPT = 0x0F, LETTER = 0x80 };

/* How many letters, how many characters beyond the basic plane (which may be letters), and how many of each script.
 * `kinds` has for each letter of the basic plane LETTER and the number of its script, and 0 for what is none. */
static PyObject *scripts(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *text, *found = NULL;
    Py_buffer kinds;
    Py_ssize_t letters = 0, beyond_plane = 0, counts[SCRIPT + 1] = {0};
    if (!PyArg_ParseTuple(args, "Uy*", &text, &kinds))
        return NULL;
    Py_UCS4 *characters = kinds.len == BASIC_PLANE ? PyUnicode_AsUCS4Copy(text) : NULL;
    if (characters == NULL) {
        if (kinds.len != BASIC_PLANE)
            PyErr_SetString(PyExc_ValueError, "a kind for each character of the basic plane");
        goto done;
    }
    for (Py_ssize_t i = 0, size = PyUnicode_GetLength(text); i < size; i++) {
        if (characters[i] >= BASIC_PLANE) {
            beyond_plane++;
            continue;
        }
        unsigned char kind = ((const unsigned char *)kinds.buf)[characters[i]];
        letters += kind >= LETTER;
        counts[kind & SCRIPT]++;
    }
    PyMem_Free(characters);
    found = Py_BuildValue("nn(nnnnnnnnn)", letters, beyond_plane, counts[1], counts[2], counts[3], counts[4], counts[5],
                          counts[6], counts[7], counts[8], counts[9]);
done:
    PyBuffer_Release(&kinds);
    return found;
}

static PyMethodDef functions[] = {
    {"priced", priced, METH_VARARGS, NULL},
    {"estimates", estimates, METH_VARARGS, NULL},
    {"scripts", scripts, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_text", NULL, -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__text(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyObject *features = PyTuple_New(FEATURE_COUNT);
    if (module == NULL || features == NULL)
        goto failed;
    for (Py_ssize_t i = 0; i < FEATURE_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (name == NULL || PyTuple_SetItem(features, i, name) < 0)
            goto failed;
    }
    if (PyModule_AddObjectRef(module, "FEATURES", features) < 0
        || PyModule_AddIntConstant(module, "REVISION", REVISION) < 0)
        goto failed;
    Py_DECREF(features);
    return module;
failed:
    Py_XDECREF(features);
    Py_XDECREF(module);
    return NULL;
}
