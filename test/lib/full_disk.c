/*
 * full_disk: a disk that is full when a test says so. Preloaded into a PostgreSQL server, it lets writes fail
 * with ENOSPC while the first byte of the file that CLICKSTREAM_DISK names says so:
 *	'd'  for tables, indexes and temporary files, whose path has /base/ in it
 *	'w'  for these and the write-ahead log
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile const char *switched;

static void __attribute__((constructor))
look(void)
{
	const char *path = getenv("CLICKSTREAM_DISK");
	int			fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *page;

	if (fd < 0)
		return;
	page = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED)
		switched = page;
	close(fd);
}

static bool
is_full(int fd)
{
	char		link[64],
				path[4096];
	ssize_t		n;

	if (switched == NULL || (*switched != 'd' && *switched != 'w'))
		return false;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if ((n = readlink(link, path, sizeof path - 1)) < 0)
		return false;
	path[n] = '\0';
	if (strstr(path, "/base/") == NULL && !(*switched == 'w' && strstr(path, "/pg_wal/") != NULL))
		return false;
	errno = ENOSPC;
	return true;
}

#define GUARDED(result, name, parameters, arguments, refusal) \
result \
name parameters \
{ \
	static result (*real) parameters; \
	if (real == NULL) \
		real = (result (*) parameters) dlsym(RTLD_NEXT, #name); \
	return is_full(fd) ? refusal : real arguments; \
}

GUARDED(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), -1)
GUARDED(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at), -1)
GUARDED(ssize_t, pwritev, (int fd, const struct iovec *parts, int n, off_t at), (fd, parts, n, at), -1)
GUARDED(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), ENOSPC)
