/*
 * short_memory: a machine that is short of memory when a test says so. Preloaded into a PostgreSQL server, it refuses
 * one in so many requests for memory while the first byte of the file that CLICKSTREAM_MEMORY names is 'm': in the
 * processes that have loaded the library of clickstream's workers, to PostgreSQL and its extensions and to the libraries of
 * JSON and HTTP. Not to librdkafka, which ends the process by itself when it gets no memory.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ONE_IN 60

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *pointer, size_t size);

static volatile const char *switched;
static __thread bool asking;

static void __attribute__((constructor))
look(void)
{
	const char *path = getenv("CLICKSTREAM_MEMORY");
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
stands_it(const void *caller)
{
	static const char *const those[] = {"postgres", "/libcurl", "/libjansson", "/libsimdjson"};
	Dl_info		info;

	if (dlsym(RTLD_DEFAULT, "clickstream_source_main") == NULL || dladdr(caller, &info) == 0 || info.dli_fname == NULL)
		return false;
	for (size_t i = 0; i < sizeof those / sizeof *those; i++)
		if (strstr(info.dli_fname, those[i]) != NULL)
			return true;
	return false;
}

static bool
is_refused(const void *caller)
{
	static unsigned long state = 0;
	bool		refused;

	if (switched == NULL || *switched != 'm' || asking || syscall(SYS_gettid) != getpid())
		return false;
	if (state == 0)
		state = (unsigned long) getpid() * 2654435761u;
	state = state * 6364136223846793005ul + 1442695040888963407ul;
	if ((state >> 33) % ONE_IN != 0)
		return false;
	asking = true;
	refused = stands_it(caller);
	asking = false;
	if (refused)
		errno = ENOMEM;
	return refused;
}

void *
malloc(size_t size)
{
	return is_refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return is_refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *pointer, size_t size)
{
	return size > 0 && is_refused(__builtin_return_address(0)) ? NULL : __libc_realloc(pointer, size);
}
