/*
 * partition_children.c
 *		Below a new partition, the same partitions that the one before it has.
 *
 * Lists and hashes are taken over as they are, and so are ranges of something else than the time; ranges of the
 * time itself are moved to the new one, where they leave no gap.  A partition that is split in any other
 * way has a plain one after it.  Called by partition_create.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "partition_internal.h"
#include "statement.h"

/* whether its ranges, of a single column that is the time, leave no gap: else rows of a copy could have no place */
static bool
covers(Relation relation, const PartitionModel *model, TimeRange range)
{
	PartitionDesc parts = RelationGetPartitionDesc(relation, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	TimestampTz next = range.from;

	if (TIMESTAMP_NOT_FINITE(range.from) || TIMESTAMP_NOT_FINITE(range.to) || bounds == NULL)
		return false;
	if (partition_bound_has_default(bounds))
		return true;
	for (int at = 0; at < bounds->ndatums; at++)
		if (bounds->indexes[at] >= 0)
		{
			if (at > 0 && time_range_bound(bounds, at - 1, model->type) > next)
				return false;
			next = time_range_bound(bounds, at, model->type);
		}
	return next >= range.to;
}

typedef enum Split
{
	SPLIT_NOT,					/* or in a way that is not taken over */
	SPLIT_AS_IT_IS,
	SPLIT_BY_TIME				/* over ranges of the same time: moved */
} Split;

static Split
split_of(const PartitionModel *model, Oid sibling, TimeRange range)
{
	const char *time = get_attname(model->relid, model->column, false);
	Relation	relation;
	PartitionKey key;
	Split		split = SPLIT_AS_IT_IS;

	if (!OidIsValid(sibling) || get_rel_relkind(sibling) != RELKIND_PARTITIONED_TABLE)
		return SPLIT_NOT;
	relation = table_open(sibling, AccessShareLock);
	key = RelationGetPartitionKey(relation);
	for (int i = 0; i < key->partnatts && key->strategy == PARTITION_STRATEGY_RANGE && split == SPLIT_AS_IT_IS; i++)
	{
		if (key->partattrs[i] != 0 &&
			strcmp(NameStr(TupleDescAttr(RelationGetDescr(relation), key->partattrs[i] - 1)->attname), time) != 0)
			continue;
		split = key->partattrs[i] != 0 && key->partnatts == 1 && covers(relation, model, range) ? SPLIT_BY_TIME : SPLIT_NOT;
	}
	table_close(relation, NoLock);
	return split;
}

/* PARTITION BY as the sibling has it; NULL when that is not taken over */
char *
partition_split(const PartitionModel *model, Oid sibling, TimeRange range)
{
	return split_of(model, sibling, range) == SPLIT_NOT ? NULL :
		TextDatumGetCString(DirectFunctionCall1(pg_get_partkeydef, ObjectIdGetDatum(sibling)));
}

static char *
bound_of(Oid partition)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(partition));
	bool		is_null;
	Datum		bound = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &is_null);
	char	   *sql = TextDatumGetCString(DirectFunctionCall2(pg_get_expr, bound, ObjectIdGetDatum(partition)));

	ReleaseSysCache(tuple);
	return sql;
}

/* what the name of a partition adds to that of its parent, or a number */
static char *
own_suffix(Oid child, Oid parent, int number)
{
	char	   *name = get_rel_name(child),
			   *stem = get_rel_name(parent);

	return strncmp(name, stem, strlen(stem)) == 0 ? name + strlen(stem) : psprintf("_%d", number);
}

/* a partition to be made below a new one, like one that its sibling has */
typedef struct Child
{
	Oid			like;
	int			number;
	char	   *bound;
	TimeRange	like_range;		/* what both have of the time */
	TimeRange	range;
} Child;

static void
create_child(const PartitionModel *model, const char *plain, Oid sibling, const Child *child)
{
	char	   *name = partition_free_name(plain, own_suffix(child->like, sibling, child->number), model->schema);
	char	   *key = partition_split(model, child->like, child->like_range);

	if (get_rel_relkind(child->like) == RELKIND_FOREIGN_TABLE)
		return;
	run_statement(psprintf("CREATE %sTABLE %s PARTITION OF %s %s%s%s%s", model->unlogged ? "UNLOGGED " : "",
						   partition_in_schema(model, name), partition_in_schema(model, plain), child->bound,
						   key ? " PARTITION BY " : "", key ? key : "", partition_storage(model, child->like)));
	if (key != NULL)
		partition_create_children(model, name, child->like, child->like_range, child->range);
}

/* a bound of the sibling's, in the new range: as far from its beginning, and the end where that had its end */
static TimestampTz
moved(TimestampTz bound, TimeRange sibling_range, TimeRange range)
{
	if (bound >= sibling_range.to)
		return range.to;
	if (bound <= sibling_range.from)
		return range.from;
	return Min(range.from + (bound - sibling_range.from), range.to);
}

/* those over ranges of the time */
static List *
children_by_time(const PartitionModel *model, Oid sibling, TimeRange sibling_range, TimeRange range)
{
	Relation	relation = table_open(sibling, AccessShareLock);
	PartitionDesc parts = RelationGetPartitionDesc(relation, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	List	   *children = NIL;

	for (int at = 0; at < bounds->ndatums; at++)
	{
		Child	   *child = palloc0(sizeof(Child));

		if (bounds->indexes[at] < 0)
			continue;
		child->like = parts->oids[bounds->indexes[at]];
		child->number = bounds->indexes[at];
		child->like_range.from = at == 0 ? DT_NOBEGIN : time_range_bound(bounds, at - 1, model->type);
		child->like_range.to = time_range_bound(bounds, at, model->type);
		child->range.from = moved(child->like_range.from, sibling_range, range);
		child->range.to = moved(child->like_range.to, sibling_range, range);
		child->bound = psprintf("FOR VALUES FROM (%s) TO (%s)", time_range_literal(child->range.from, model->type),
								time_range_literal(child->range.to, model->type));
		if (child->range.from < child->range.to)
			children = lappend(children, child);
	}
	if (partition_bound_has_default(bounds))
	{
		Child	   *child = palloc0(sizeof(Child));

		child->like = parts->oids[bounds->default_index];
		child->number = bounds->default_index;
		child->bound = "DEFAULT";
		child->like_range = child->range = (TimeRange) {DT_NOBEGIN, DT_NOEND};
		children = lappend(children, child);
	}
	table_close(relation, NoLock);
	return children;
}

static List *
children_as_they_are(Oid sibling, TimeRange sibling_range, TimeRange range)
{
	List	   *children = NIL;
	ListCell   *cell;

	foreach(cell, find_inheritance_children(sibling, AccessShareLock))
	{
		Child	   *child = palloc0(sizeof(Child));

		*child = (Child) {lfirst_oid(cell), foreach_current_index(cell), bound_of(lfirst_oid(cell)), sibling_range, range};
		children = lappend(children, child);
	}
	return children;
}

/* below the new partition, which nobody sees yet, the same partitions that its sibling has */
void
partition_create_children(const PartitionModel *model, const char *plain, Oid sibling, TimeRange sibling_range, TimeRange range)
{
	List	   *children = split_of(model, sibling, sibling_range) == SPLIT_BY_TIME ?
		children_by_time(model, sibling, sibling_range, range) : children_as_they_are(sibling, sibling_range, range);
	ListCell   *cell;

	foreach(cell, children)
		create_child(model, plain, sibling, lfirst(cell));
}
