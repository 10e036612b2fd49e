/*
 * compat.h
 *		The differences between the versions of PostgreSQL, and the only place for them.
 *
 * clickstream is written for PostgreSQL 15 to 18.  A file that needs an interface that changed
 * includes this header and uses the name given here.
 */
#ifndef CLICKSTREAM_COMPAT_H
#define CLICKSTREAM_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "clickstream needs PostgreSQL 15 or newer"
#endif

/* one function checks the rights on any object since 16 */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_database_d.h"
#include "catalog/pg_foreign_server_d.h"
#define compat_server_aclcheck(server, role, mode) \
	object_aclcheck(ForeignServerRelationId, server, role, mode)
#define compat_database_ownercheck(database, role) \
	object_ownercheck(DatabaseRelationId, database, role)
#else
#define compat_server_aclcheck(server, role, mode) \
	pg_foreign_server_aclcheck(server, role, mode)
#define compat_database_ownercheck(database, role) pg_database_ownercheck(database, role)
#endif

/* wait events of an extension have names of their own since 17 */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define compat_wait_event(name) WaitEventExtensionNew(name)
#else
#include "utils/wait_event.h"
#define compat_wait_event(name) ((void) (name), PG_WAIT_EXTENSION)
#endif

/* stored generated columns can be published since 18; virtual ones, which are new there, cannot */
#if PG_VERSION_NUM >= 180000
#define COMPAT_PUBLISH_GENERATED ", publish_generated_columns = stored"
#define compat_is_published(attribute) \
	((attribute)->attgenerated == '\0' || (attribute)->attgenerated == ATTRIBUTE_GENERATED_STORED)
#define compat_has_virtual_columns(desc) ((desc)->constr && (desc)->constr->has_generated_virtual)
#else
#define COMPAT_PUBLISH_GENERATED ""
#define compat_is_published(attribute) ((attribute)->attgenerated == '\0')
#define compat_has_virtual_columns(desc) false
#endif

/* a change in the reorder buffer holds its rows themselves since 17 */
#if PG_VERSION_NUM >= 170000
#define compat_change_tuple(row) (row)
#else
#define compat_change_tuple(row) ((row) ? &(row)->tuple : NULL)
#endif

/* one function for the owners of all kinds of objects since 16 */
#if PG_VERSION_NUM >= 160000
#define compat_owns_relation(relation, role) object_ownercheck(RelationRelationId, relation, role)
#else
#define compat_owns_relation(relation, role) pg_class_ownercheck(relation, role)
#endif

/* what a range table entry asks for is kept beside the range table since 16 */
#if PG_VERSION_NUM >= 160000
#define compat_forget_permissions(rte) ((rte)->perminfoindex = 0)
#else
#define compat_forget_permissions(rte) \
	((rte)->requiredPerms = 0, (rte)->selectedCols = NULL, (rte)->checkAsUser = InvalidOid)
#endif

/*
 * For an entry of a relation that no rights are to be asked for.  Since 16 it must ask for some: those that the
 * relation's owner has.
 */
#if PG_VERSION_NUM >= 160000
#define compat_ask_as_owner(query, rte, owner) \
	do { \
		RTEPermissionInfo *rights_; \
		(rte)->perminfoindex = 0; \
		rights_ = addRTEPermissionInfo(&(query)->rteperminfos, rte); \
		rights_->requiredPerms = ACL_SELECT; \
		rights_->checkAsUser = (owner); \
	} while (0)
#else
#define compat_ask_as_owner(query, rte, owner) ((void) (query), (void) (owner), compat_forget_permissions(rte))
#endif

/* the rights that a plan asks for, each in an entry of a list */
#if PG_VERSION_NUM >= 160000
#define compat_rights_of_plan(plan) ((plan)->permInfos)
#define compat_rights_in(entry) (((RTEPermissionInfo *) (entry))->requiredPerms)
#else
#define compat_rights_of_plan(plan) ((plan)->rtable)
#define compat_rights_in(entry) (((RangeTblEntry *) (entry))->requiredPerms)
#endif

/* columns that are not there can be left out since 16 */
#if PG_VERSION_NUM >= 160000
#define compat_build_attrmap_by_name(from, to) build_attrmap_by_name(from, to, false)
#else
#define compat_build_attrmap_by_name(from, to) build_attrmap_by_name(from, to)
#endif

/* room before a minimal tuple may be asked for since 18 */
#if PG_VERSION_NUM >= 180000
#define compat_form_minimal_tuple(desc, values, nulls) heap_form_minimal_tuple(desc, values, nulls, 0)
#else
#define compat_form_minimal_tuple(desc, values, nulls) heap_form_minimal_tuple(desc, values, nulls)
#endif

#if PG_VERSION_NUM >= 180000
#define compat_executor_run(query) ExecutorRun(query, ForwardScanDirection, 0)
#else
#define compat_executor_run(query) ExecutorRun(query, ForwardScanDirection, 0, true)
#endif

/* a hash table of tuples: one function makes it since 18, and what stands beside a tuple is its own memory before */
#if PG_VERSION_NUM >= 180000
#define compat_build_tuple_hash_table(parent, desc, n, keys, equal, hash, collations, size, additional, meta, table, temporary) \
	BuildTupleHashTable(parent, desc, NULL, n, keys, equal, hash, collations, size, additional, meta, table, temporary, false)
#define compat_hash_entry_additional(table, entry, is_new, size) \
	((void) (is_new), TupleHashEntryGetAdditional(table, entry))
#else
#define compat_build_tuple_hash_table(parent, desc, n, keys, equal, hash, collations, size, additional, meta, table, temporary) \
	BuildTupleHashTableExt(parent, desc, n, keys, equal, hash, collations, size, additional, meta, table, temporary, false)
#define compat_hash_entry_additional(hashed, entry, is_new, size) \
	((is_new) ? ((entry)->additional = MemoryContextAlloc((hashed)->tablecxt, size)) : (entry)->additional)
#endif

/* the map from a partitioned table to its leaf is asked for since 16, and made with it before */
#if PG_VERSION_NUM >= 160000
#define compat_root_to_child_map(relation, estate) ExecGetRootToChildMap(relation, estate)
#define compat_insert_index_tuples(relation, slot, estate) \
	ExecInsertIndexTuples(relation, slot, estate, false, false, NULL, NIL, false)
#else
#define compat_root_to_child_map(relation, estate) ((void) (estate), (relation)->ri_RootToPartitionMap)
#define compat_insert_index_tuples(relation, slot, estate) \
	ExecInsertIndexTuples(relation, slot, estate, false, false, NULL, NIL)
#endif

/* an update says which kinds of indexes need an entry since 16, and whether any does before */
#if PG_VERSION_NUM >= 160000
#define compat_update_indexes TU_UpdateIndexes
#define compat_needs_index_entries(which) ((which) != TU_None)
#define compat_update_index_tuples(relation, slot, estate, which) \
	ExecInsertIndexTuples(relation, slot, estate, true, false, NULL, NIL, (which) == TU_Summarizing)
#define compat_insert_speculative_index_tuples(relation, slot, estate, conflict, indexes) \
	ExecInsertIndexTuples(relation, slot, estate, false, true, conflict, indexes, false)
#else
#define compat_update_indexes bool
#define compat_needs_index_entries(which) (which)
#define compat_update_index_tuples(relation, slot, estate, which) \
	ExecInsertIndexTuples(relation, slot, estate, true, false, NULL, NIL)
#define compat_insert_speculative_index_tuples(relation, slot, estate, conflict, indexes) \
	ExecInsertIndexTuples(relation, slot, estate, false, true, conflict, indexes)
#endif

/* a scan can be watched since 18 */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(table, index, snapshot, n_keys) \
	index_beginscan(table, index, snapshot, NULL, n_keys, 0)
#else
#define compat_index_beginscan(table, index, snapshot, n_keys) \
	index_beginscan(table, index, snapshot, n_keys, 0)
#endif

/* a message that belongs to the transaction; whether it is flushed at once can be said since 17 */
#if PG_VERSION_NUM >= 170000
#define compat_log_message(prefix, bytes, length) LogLogicalMessage(prefix, bytes, length, true, false)
#else
#define compat_log_message(prefix, bytes, length) LogLogicalMessage(prefix, bytes, length, true)
#endif

/* replication slots; includes replication/slot.h where it is used */
#if PG_VERSION_NUM >= 170000
#define compat_replication_slot_create(name, persistency) \
	ReplicationSlotCreate(name, true, persistency, false, false, false)
#else
#define compat_replication_slot_create(name, persistency) \
	ReplicationSlotCreate(name, true, persistency, false)
#endif

#if PG_VERSION_NUM >= 180000
#define compat_replication_slot_acquire(name) ReplicationSlotAcquire(name, false, true)
#else
#define compat_replication_slot_acquire(name) ReplicationSlotAcquire(name, false)
#endif

#if PG_VERSION_NUM >= 160000
#define compat_slot_is_invalidated(slot) ((slot)->data.invalidated != RS_INVAL_NONE)
#else
#define compat_slot_is_invalidated(slot) (!XLogRecPtrIsInvalid((slot)->data.invalidated_at))
#endif

/* the map of a block range index is read without a snapshot since 17 */
#if PG_VERSION_NUM >= 170000
#define compat_brin_revmap(index, pages_per_range) brinRevmapInitialize(index, pages_per_range)
#define compat_brin_tuple(revmap, block, buffer, offset) \
	brinGetTupleForHeapBlock(revmap, block, buffer, offset, NULL, BUFFER_LOCK_SHARE)
#else
#define compat_brin_revmap(index, pages_per_range) brinRevmapInitialize(index, pages_per_range, NULL)
#define compat_brin_tuple(revmap, block, buffer, offset) \
	brinGetTupleForHeapBlock(revmap, block, buffer, offset, NULL, BUFFER_LOCK_SHARE, NULL)
#endif

/* rows that go into a table without a plan */
#if PG_VERSION_NUM >= 180000
#define compat_check_insert_target(relation) \
	CheckValidResultRel(relation, CMD_INSERT, ONCONFLICT_NONE, NIL)
#elif PG_VERSION_NUM >= 170000
#define compat_check_insert_target(relation) CheckValidResultRel(relation, CMD_INSERT, NIL)
#else
#define compat_check_insert_target(relation) CheckValidResultRel(relation, CMD_INSERT)
#endif

/* one more argument since 18: a row that is no conflict */
#if PG_VERSION_NUM >= 180000
#define compat_check_index_constraints(relation, slot, estate, conflict, indexes) \
	ExecCheckIndexConstraints(relation, slot, estate, conflict, NULL, indexes)
#else
#define compat_check_index_constraints(relation, slot, estate, conflict, indexes) \
	ExecCheckIndexConstraints(relation, slot, estate, conflict, indexes)
#endif

/*
 * Since 18 the expressions of GROUP BY stand in a range table entry of their own, and the output refers to
 * it.  This puts them back where they were written.
 */
#if PG_VERSION_NUM >= 180000
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#define compat_put_group_keys_back(query) \
do { \
	if ((query)->hasGroupRTE) \
	{ \
		(query)->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) (query)->targetList); \
		(query)->rtable = list_truncate((query)->rtable, list_length((query)->rtable) - 1); \
		(query)->hasGroupRTE = false; \
	} \
} while (0)
#else
#define compat_put_group_keys_back(query) ((void) (query))
#endif

/* before a declaration */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* char * before 18, uint8 * since */
#define compat_b64_encode(bytes, length, text, room) \
	pg_b64_encode((const void *) (bytes), length, text, room)

/* an index may hold pages between inserts since 17: given back before a savepoint ends, gone when it failed */
#if PG_VERSION_NUM >= 170000
#define compat_end_inserts(index, info, failed) \
	do { \
		if ((info)->ii_AmCache != NULL && !(failed)) \
			index_insert_cleanup(index, info); \
		(info)->ii_AmCache = NULL; \
	} while (0)
#else
#define compat_end_inserts(index, info, failed) ((void) 0)
#endif

#endif							/* CLICKSTREAM_COMPAT_H */
