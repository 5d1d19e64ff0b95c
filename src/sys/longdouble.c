/* long double for longdouble.rs. Values are passed by address, since Rust has no such type. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(sizeof(long double) <= 16 && _Alignof(long double) <= 16, "LongDouble has 16 bytes");

int aikv_ld_parse(const char *text, size_t length, long double *out) {
    char *end;
    errno = 0;
    *out = strtold(text, &end);
    if ((size_t)(end - text) != length || isnan(*out)) return 0;
    return !(errno == ERANGE && (isinf(*out) || *out == 0));
}

void aikv_ld_add(const long double *left, const long double *right, long double *out) {
    *out = *left + *right;
}

int aikv_ld_is_finite(const long double *value) { return isfinite(*value) != 0; }

/* Number of characters, without the NUL. */
int aikv_ld_print(const long double *value, char *out, size_t room) {
    return snprintf(out, room, "%.17Lf", *value);
}
