/* Kinds of characters in ASCII, as Python has them, and letters of words in UTF-8: slips of the finger are those of
 * spelling.py, letter groups those of features.py. */
#ifndef LLM_ROUTER_WORDS
#define LLM_ROUTER_WORDS

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

static inline int is_blank(char c) { return kind_of((unsigned char)c) == BLANK; }

static inline int is_digit(char c) { return c >= '0' && c <= '9'; }

static inline int is_word_character(char c)
{
    int kind = kind_of((unsigned char)c);
    return kind == LETTER || kind == DIGIT || c == '_';
}

static inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) { return a < b ? a : b; }

/* ---- letters ---- */

static inline int begins_letter(char c) { return ((unsigned char)c & 0xC0) != 0x80; }

static Py_ssize_t letters_in(const char *bytes, Py_ssize_t size)
{
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < size; i++)
        count += begins_letter(bytes[i]);
    return count;
}

static Py_ssize_t after_letter(const char *bytes, Py_ssize_t size, Py_ssize_t at)
{
    do
        at++;
    while (at < size && !begins_letter(bytes[at]));
    return at;
}

/* ---- slips of the finger ---- */

static int is_same(const char *left, Py_ssize_t size, const char *right, Py_ssize_t other)
{
    return size == other && memcmp(left, right, (size_t)size) == 0;
}

/* Whether one letter more, less, another, or two neighbours swapped make one word of the other. */
static int is_one_slip(const char *left, Py_ssize_t size, const char *right, Py_ssize_t other)
{
    Py_ssize_t same = 0, letters = letters_in(left, size), others = letters_in(right, other);
    if (is_same(left, size, right, other))
        return 0;
    while (same < size && same < other && left[same] == right[same])
        same++;
    while (same > 0 && ((same < size && !begins_letter(left[same])) || (same < other && !begins_letter(right[same]))))
        same--;
    left += same, right += same, size -= same, other -= same;
    Py_ssize_t one = size > 0 ? after_letter(left, size, 0) : 0, its = other > 0 ? after_letter(right, other, 0) : 0;
    if (letters > others)
        return is_same(left + one, size - one, right, other);
    if (letters < others)
        return is_same(left, size, right + its, other - its);
    if (is_same(left + one, size - one, right + its, other - its))
        return 1;
    if (one == size || its == other)
        return 0;
    Py_ssize_t two = after_letter(left, size, one), both = after_letter(right, other, its);
    return is_same(left, one, right + its, both - its) && is_same(left + one, two - one, right, its)
           && is_same(left + two, size - two, right + both, other - both);
}

/* ---- letter groups ---- */

static uint32_t crc_table[256];

static void crc_make(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
        crc_table[i] = value;
    }
}

/* CRC-32, as zlib has it. */
static uint32_t crc(const char *bytes, Py_ssize_t size)
{
    uint32_t value = 0xFFFFFFFFu;
    for (Py_ssize_t i = 0; i < size; i++)
        value = value >> 8 ^ crc_table[(value ^ (unsigned char)bytes[i]) & 0xFF];
    return ~value;
}

/* Whether the first letter of a word is one; -1 with an exception. */
static int begins_with_letter(const char *word, Py_ssize_t end)
{
    if (end == 1)
        return kind_of((unsigned char)word[0]) == LETTER;
    PyObject *text = PyUnicode_DecodeUTF8(word, end, "surrogatepass");
    PyObject *told = text == NULL ? NULL : PyObject_CallMethod(text, "isalpha", NULL);
    int is = told == NULL ? -1 : PyObject_IsTrue(told);
    Py_XDECREF(text);
    Py_XDECREF(told);
    return is;
}

static int has_hangul(const char *word, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i + 2 < size; i++) {
        unsigned char first = (unsigned char)word[i], second = (unsigned char)word[i + 1];
        int32_t c = (first & 0x0F) << 12 | (second & 0x3F) << 6 | (word[i + 2] & 0x3F);
        if ((first & 0xF0) == 0xE0 && c >= 0xAC00 && c <= 0xD7AF)
            return 1;
    }
    return 0;
}

enum { WORD_LETTERS = 24 }; /* of a word, whose letter groups are read */
enum { MOST_GROUPS = 3 * (WORD_LETTERS + 2) + 1 };

/* The letter groups of a word, as features.letter_groups gives them; how many, or -1 with an exception. */
static Py_ssize_t groups_of(const char *word, Py_ssize_t size, int32_t *groups, uint32_t mask)
{
    Py_ssize_t ends[WORD_LETTERS + 3] = {0}, letters = 0, count = 0, shortest = 1, longest = 3;
    char read[4 * WORD_LETTERS + 2];
    while (letters < WORD_LETTERS && ends[letters] < size) {
        ends[letters + 1] = after_letter(word, size, ends[letters]);
        letters++;
    }
    if (letters < 2)
        return 0;
    int is_word = begins_with_letter(word, ends[1]);
    if (is_word <= 0)
        return is_word;
    if (has_hangul(word, size)) {
        read[0] = '^';
        memcpy(read + 1, word, (size_t)ends[2]);
        groups[count++] = (int32_t)(crc(read, ends[2] + 1) & mask);
        memcpy(read, word, (size_t)ends[letters]);
    } else {
        read[0] = '_';
        memcpy(read + 1, word, (size_t)ends[letters]);
        for (Py_ssize_t i = letters; i >= 0; i--)
            ends[i + 1] = ends[i] + 1;
        ends[0] = 0;
        letters += 2;
        read[ends[letters - 1]] = '_';
        ends[letters] = ends[letters - 1] + 1;
        shortest = 3;
        longest = 5;
    }
    for (Py_ssize_t n = shortest; n <= longest; n++)
        for (Py_ssize_t i = 0; i + n <= letters; i++)
            groups[count++] = (int32_t)(crc(read + ends[i], ends[i + n] - ends[i]) & mask);
    return count;
}

#endif
