/* Makes the disk fail where a test wants it: loaded into the daemon with LD_PRELOAD, it counts the calls that change files below one
 * folder and lets one of them, or all from one on, fail with an errno of the test's choice.
 *
 *   FAULT_BELOW    the folder, as the kernel names it (no links)
 *   FAULT_CONTROL  a file of CONTROL_SIZE bytes that the test writes and reads; it is mapped, so both see it at once
 *
 *   u32 mode   0 off, 1 the call number `at` fails, 2 it and all after it fail
 *   u32 at     from 1
 *   u32 error  errno
 *   u32 count  calls since the test set it to 0
 *   u32 failed calls that were failed
 *   char what[] the last call that was failed: its name and path
 *
 * Calls that a program makes without the C library are not seen; the daemon makes none that change files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONTROL_SIZE 256

struct control {
    unsigned mode, at, error, count, failed;
    char what[CONTROL_SIZE - 5 * sizeof(unsigned)];
};

static struct control *control;
static const char *below;
static size_t below_len;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULT_CONTROL");
    below = getenv("FAULT_BELOW");
    if (!file || !below) return;
    below_len = strlen(below);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) control = map;
}

/* Whether this call is to fail; errno is set. */
static int fails(const char *name, const char *path) {
    if (strncmp(path, below, below_len) != 0) return 0;
    unsigned n = __sync_add_and_fetch(&control->count, 1);
    unsigned mode = control->mode;
    if (!(mode == 1 && n == control->at) && !(mode == 2 && n >= control->at)) return 0;
    __sync_add_and_fetch(&control->failed, 1);
    snprintf(control->what, sizeof control->what, "%s %s", name, path + below_len);
    errno = control->error;
    return 1;
}

static int path_fails(const char *name, const char *path) { return control && path[0] == '/' && fails(name, path); }

static int fd_fails(const char *name, int fd) {
    char link[64], path[4096];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(name, path);
}

#define REAL(type, name, ...)                                                   \
    static type (*real)(__VA_ARGS__);                                           \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *from, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return fd > 2 && fd_fails("write", fd) ? -1 : real(fd, from, n);
}

ssize_t writev(int fd, const struct iovec *from, int n) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return fd > 2 && fd_fails("writev", fd) ? -1 : real(fd, from, n);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fd_fails("pwrite", fd) ? -1 : real(fd, from, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return fd_fails("pwrite", fd) ? -1 : real(fd, from, n, at);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return fd_fails("fsync", fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return fd_fails("fdatasync", fd) ? -1 : real(fd);
}

int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags) {
    REAL(int, "sync_file_range", int, off64_t, off64_t, unsigned);
    return fd_fails("sync_file_range", fd) ? -1 : real(fd, at, n, flags);
}

int ftruncate64(int fd, off64_t n) {
    REAL(int, "ftruncate64", int, off64_t);
    return fd_fails("ftruncate", fd) ? -1 : real(fd, n);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    REAL(int, "open64", const char *, int, ...);
    return flags & O_CREAT && path_fails("create", path) ? -1 : real(path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return path_fails("mkdir", path) ? -1 : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return path_fails("rename", to) ? -1 : real(from, to);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    return path_fails("link", to) ? -1 : real(from_dir, from, to_dir, to, flags);
}
