/*
 * clickstream.c
 *		Entry point of the preloaded library: settings, shared memory, the launcher.
 *
 * Owns nothing else.  Must stay small: it is loaded in every backend.  Where the server did not
 * preload it, it defines nothing at all, and every function that needs shared memory says so.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "launcher.h"
#include "rollup_api.h"
#include "rollup_portions.h"
#include "utility_hook.h"
#include "worker_slot.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(clickstream_check_preloaded);

void		_PG_init(void);

const char	clickstream_headers[] = CLICKSTREAM_HEADERS;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;
static bool preloaded = false;

static void
request_shared_memory(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(add_size(worker_slots_size(), launcher_shared_size()));
}

static void
fill_shared_memory(void)
{
	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	worker_slots_init();
	launcher_shared_init();
}

static void
define_settings(void)
{
	DefineCustomIntVariable("clickstream.max_workers",
							"How many source and sink workers may run at once in this server.",
							"Each takes one of max_worker_processes, and the launcher two more.",
							&clickstream_max_workers, 16, 1, 1024, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
	DefineCustomBoolVariable("clickstream.enabled",
							 "Whether source and sink workers run in this server.",
							 "Switched off, all end at once; switched on, each goes on where it was.",
							 &clickstream_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.fill_at_once",
							"The size up to which a table is read within create_rollup.",
							"A larger table is read in the background, while others write to it. -1 reads every table at once.",
							&clickstream_fill_at_once, 128 * 1024, -1, MAX_KILOBYTES, PGC_USERSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.fill_portion",
							"How much of a table is read at once to fill a rollup in the background.",
							"A larger table is read by portions of each of its partitions, and filling goes on after a crash with the one under way.",
							&clickstream_fill_portion, 2 * 1024 * 1024, 8, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL,
							NULL);
	MarkGUCPrefixReserved("clickstream");
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	preloaded = true;
	define_settings();
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = fill_shared_memory;
	/* pg_upgrade takes the database apart and puts it together: nothing of ours works or looks at it meanwhile */
	if (IsBinaryUpgrade)
		return;
	launcher_register();
	utility_hook_register();
}

/* CREATE EXTENSION calls this first */
Datum
clickstream_check_preloaded(PG_FUNCTION_ARGS)
{
	const char *libraries = GetConfigOption("shared_preload_libraries", true, false);

	if (libraries == NULL)
		libraries = "";
	if (!preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clickstream must be loaded when the server starts"),
				 errdetail("shared_preload_libraries is \"%s\".", libraries),
				 errhint("Put shared_preload_libraries = '%s%sclickstream' into postgresql.conf and "
						 "restart the server.",
						 libraries, libraries[0] ? ", " : "")));
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}
