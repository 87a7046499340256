/*
 * Numbers out of many small files of the kernel, in one call from JavaScript: a list of statistics reads a thousand of them, and each by
 * itself would cost several times there what it costs in the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* One file of many. fd: a descriptor; or open it at `path`, and KEEP it open (then fd is its descriptor) or let it PASS; or there is NONE.
   path, names: where in the texts it or they begin, each with its NUL. result: how many bytes it had, or -errno. */
typedef struct { int fd, path, names, count, result; } counted;
enum { KEEP = -1, PASS = -2, NONE = -3, MOST_TEXT = 32 * 1024 };

static int is_digit(char c) { return c >= '0' && c <= '9'; }

/* A number that may have a fraction, rounded once; moves on behind it. Not a number where there is none, or one below 0. */
static double number_at(const char **at) {
  uint64_t whole = 0, scale = 1;
  while (**at == ' ' || **at == '\t') (*at)++;
  if (!is_digit(**at)) return NAN;
  for (; is_digit(**at); (*at)++) whole = whole > UINT64_MAX / 10 - 1 ? UINT64_MAX : whole * 10 + (uint64_t)(**at - '0');
  if (**at == '.')
    for ((*at)++; is_digit(**at); (*at)++)
      if (whole < UINT64_MAX / 10 - 1 && scale < UINT64_MAX / 10) { whole = whole * 10 + (uint64_t)(**at - '0'); scale *= 10; }
  return (double)whole / (double)scale;
}

/* Behind a name at the beginning of a line of the text, `from` or below; NULL where there is no such line. */
static const char *behind(const char *text, const char *from, const char *name, size_t size) {
  const char *line = from;
  if (from > text && from[-1] != '\n' && (line = strchr(from, '\n'))) line++;
  for (; line; line = strchr(line, '\n'), line += line != NULL) {
    while (*line == ' ') line++;
    if (strncmp(line, name, size) == 0) return line + size;
  }
  return NULL;
}

/* Behind a name anywhere in the rest of the line. */
static const char *further(const char *at, const char *name, size_t size) {
  const char *found = at ? memmem(at, strcspn(at, "\n"), name, size) : NULL;
  return found ? found + size : NULL;
}

/* Names are looked for from where the last one was, and then from the top; those that begin with a space, in the rest of that line. */
static void find_numbers(const char *text, const char *name, int count, double *out) {
  const char *last = text, *at = text;
  for (size_t size; count-- > 0; name += size + 1, out++) {
    size = strlen(name);
    if (*name == ' ') at = further(at, name, size);
    else if (!(at = behind(text, last, name, size))) at = behind(text, text, name, size);
    *out = at ? number_at(&at) : NAN;
    if (at) last = at;
  }
}

static long read_counted(counted *file, const char *paths, char *text) {
  int fd = file->fd >= 0 ? file->fd : open(paths + file->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  long size = fd < 0 ? -errno : pread(fd, text, MOST_TEXT - 1, 0);
  if (fd >= 0 && size < 0) size = -errno;
  if (file->fd == KEEP && size >= 0) file->fd = fd; else if (file->fd < 0 && fd >= 0) close(fd);
  return size;
}

/* Reads all the files; the numbers of each follow those of the one before. Returns how many were opened to be kept, or could not be read. */
long read_numbers(void *files, long count, const char *names, const char *paths, double *out) {
  char text[MOST_TEXT]; long news = 0;
  for (counted *file = files; count-- > 0; out += file->count, file++) {
    int before = file->fd;
    if (before == NONE) { for (int i = 0; i < file->count; i++) out[i] = NAN; continue; }
    file->result = (int)read_counted(file, paths, text);
    text[file->result < 0 ? 0 : file->result] = 0;
    news += file->result < 0 || file->fd != before;
    find_numbers(text, names + file->names, file->count, out);
  }
  return news;
}
