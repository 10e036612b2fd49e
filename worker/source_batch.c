/*
 * source_batch.c
 *		The transaction of a batch: rows, dead letters, rollups and offsets are one commit.
 *
 * Owns what is asked of the target before rows go into it, and what is kept from batch to batch for
 * that.  The consumer moves on after the commit and only then, which is source_main.c's.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "dead_letter.h"
#include "source_worker.h"

/* ---------------------------------------------------------------- rules for rows */

static WriterRules
rules_of(SourceWorker *worker)
{
	WriterRules rules = writer_rules_of(worker->source);

	if (worker->source->partition_interval != NULL)
		rules.may_use_default = source_default_takes;
	rules.argument = worker;
	return rules;
}

static Relation
open_target(SourceWorker *worker)
{
	Relation	target = try_table_open(worker->source->target, RowExclusiveLock);

	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of source \"%s\" does not exist any more", worker->source->name),
				 errhint("Run clickstream.drop_source, and create it again with another target.")));
	if (target->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table of source \"%s\" has become a partition of another", worker->source->name),
				 errhint("Detach it, or run clickstream.drop_source and create it again over the table above.")));
	if (pg_class_aclcheck(RelationGetRelid(target), worker->slot->owner, ACL_INSERT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(target));
	if (check_enable_rls(RelationGetRelid(target), worker->slot->owner, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" forces row security on its owner, which a source cannot apply",
						RelationGetRelationName(target)),
				 errhint("Run ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.")));
	return target;
}

/* plan and rollups are kept from batch to batch, and made anew when the table is another */
static void
prepare_for(SourceWorker *worker, Relation target)
{
	MemoryContext outer = MemoryContextSwitchTo(worker->memory);

	if (worker->plan != NULL && !decode_plan_fits(worker->plan, target, worker->source->columns))
	{
		decode_plan_free(worker->plan);
		worker->plan = NULL;
	}
	if (worker->plan == NULL)
		worker->plan = decode_plan_build(target, worker->source->columns);
	if (worker->rollups != NULL && worker->rollups_of != RelationGetRelid(target))
	{
		rollup_set_close(worker->rollups);
		worker->rollups = NULL;
	}
	if (worker->rollups == NULL)
		worker->rollups = rollup_set_open(RelationGetRelid(target));
	else
		rollup_set_refresh(worker->rollups);
	worker->rollups_of = RelationGetRelid(target);
	MemoryContextSwitchTo(outer);
}

/* ---------------------------------------------------------------- a batch */

void
source_batch_take(SourceWorker *worker, rd_kafka_message_t **messages, const int32 *slots, int n)
{
	if (worker->batch.n == n && worker->batch.messages == messages && n > 0)
		return;					/* the one that is tried again */
	MemoryContextReset(worker->batch_memory);
	memset(&worker->batch, 0, sizeof(Batch));
	worker->batch.n = n;
	worker->batch.messages = messages;
	worker->batch.memory = worker->batch_memory;
	worker->batch.outcome = MemoryContextAllocZero(worker->batch_memory, Max(n, 1));
	worker->batch.slots = slots;
	source_forget_default(worker);
	worker->partition_tries = 0;
}

void
source_batch_forget(SourceWorker *worker)
{
	worker->batch.n = 0;
	worker->batch.messages = NULL;
}

/*
 * rows, dead letters and skips of each partition; records of one come in a row more often than
 * not
 */
static void
count_outcomes(SourceWorker *worker)
{
	const Batch *batch = &worker->batch;
	SourceOffset *offset = NULL;

	for (int i = 0; i < batch->n; i++)
	{
		if (i == 0 || batch->slots[i] != batch->slots[i - 1])
			offset = consumer_offset(worker->consumer, batch->slots[i]);
		switch (batch->outcome[i])
		{
			case RECORD_ROW:
				offset->rows++;
				break;
			case RECORD_DEAD_LETTER:
				offset->dead_letters++;
				break;
			case RECORD_SKIPPED:
				offset->skipped++;
				break;
			default:
				elog(ERROR, "record %d of a batch has no outcome", i);
		}
	}
}

/* false when partitions are missing: their times are in worker->missing then */
static bool
write_batch(SourceWorker *worker)
{
	Relation	target = open_target(worker);
	WriterRules rules = rules_of(worker);
	Writer	   *writer;

	prepare_for(worker, target);
	writer = writer_open(target, worker->plan, &rules, worker->rollups);
	if (!writer_write(writer, &worker->batch, &worker->care))
	{
		const int  *records;
		const TimestampTz *times = writer_missing(writer, &records, &worker->n_missing);

		worker->missing = MemoryContextAllocHuge(worker->batch_memory,
												 sizeof(TimestampTz) * worker->n_missing);
		memcpy(worker->missing, times, sizeof(TimestampTz) * worker->n_missing);
		worker->missing_records = MemoryContextAllocHuge(worker->batch_memory, sizeof(int) * worker->n_missing);
		memcpy(worker->missing_records, records, sizeof(int) * worker->n_missing);
		return false;
	}
	writer_close(writer);
	table_close(target, NoLock);
	dead_letters_save(worker->source->name, &worker->batch);
	return true;
}

/* a record that is alone cannot be told from its surroundings: others may have come since it was fetched */
static bool
wants_neighbours(SourceWorker *worker)
{
	if (!worker->care.suspects || worker->batch.n != 1 || worker->fetched_again == worker->failures)
		return false;
	worker->fetched_again = worker->failures;
	return true;
}

void
source_count_messages(SourceWorker *worker, List *offsets)
{
	ListCell   *cell;

	worker->n_messages = 0;
	foreach(cell, offsets)
		worker->n_messages += ((SourceOffset *) lfirst(cell))->messages;
}

RoundResult
source_batch_run(SourceWorker *worker)
{
	List	   *offsets;

	source_begin(worker);
	offsets = catalog_offsets(worker->source->name);
	if (!consumer_agrees(worker->consumer, offsets) || wants_neighbours(worker))
	{
		MemoryContext outer = CurrentMemoryContext;

		source_batch_forget(worker);
		consumer_rewind(worker->consumer, offsets);
		MemoryContextSwitchTo(outer);
		worker_commit();
		return ROUND_REWIND;
	}
	if (worker->batch.n > 0)
	{
		if (!write_batch(worker))
		{
			worker_rollback();
			return ROUND_PARTITIONS;
		}
		count_outcomes(worker);
	}
	offsets = consumer_record(worker->consumer, worker->source->name, offsets);
	catalog_offsets_save(worker->source->name, offsets);
	source_count_messages(worker, offsets);
	worker_commit();
	return ROUND_COMMITTED;
}
