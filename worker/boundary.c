/*
 * boundary.c
 *		A position of the write-ahead log that divides transactions as the snapshots after it do.
 *
 * A transaction writes its commit record first, is marked as committed next, and leaves the list of
 * running transactions last; with synchronous replication much later.  In between a snapshot does not
 * see it, although its commit stands in the log before the snapshot's time.  A document made of such a
 * snapshot, sent with the end of the log as its version, would be an older row over a newer one.
 *
 * So: first those that are just writing their commit record are waited for, as a checkpoint does; after
 * that each commit before the position is marked.  Then those that are marked and still in the list are
 * waited for, one by one.  Transactions that have not begun to commit are not: their commits will stand
 * behind the position.  Called by inquiry_check_sink.c.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/standby.h"
#include "utils/snapmgr.h"

#include "boundary.h"
#include "worker.h"

#define LOOK_AGAIN_MS 1

static void
wait_for_commit_records(void)
{
	int			n;
	VirtualTransactionId *committing = GetVirtualXIDsDelayingChkpt(&n, DELAY_CHKPT_START);

	while (n > 0 && HaveVirtualXIDsDelayingChkpt(committing, n, DELAY_CHKPT_START))
	{
		CHECK_FOR_INTERRUPTS();
		worker_sleep(LOOK_AGAIN_MS, "ClickstreamCheckSink");
	}
	pfree(committing);
}

/*
 * TransactionIdIsInProgress would not do: it takes what is marked as committed for finished, and here it
 * matters whether a snapshot still counts it as running.
 */
static bool
is_hidden(TransactionId xid)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		hidden = XidInMVCCSnapshot(xid, snapshot);

	UnregisterSnapshot(snapshot);
	return hidden;
}

static void
wait_for_committed(const TransactionId *running, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		while (TransactionIdDidCommit(running[i]) && is_hidden(running[i]))
		{
			CHECK_FOR_INTERRUPTS();
			worker_sleep(LOOK_AGAIN_MS, "ClickstreamCheckSink");
		}
}

/* The list itself: a snapshot leaves out those that came after the last one to finish. */
static TransactionId *
running_transactions(int *n)
{
	RunningTransactions running = GetRunningTransactionData();
	TransactionId *xids;

	LWLockRelease(ProcArrayLock);
	LWLockRelease(XidGenLock);
	/* in memory of this process, where it stands until the next call */
	*n = running->xcnt;
	xids = palloc(sizeof(TransactionId) * Max(*n, 1));
	memcpy(xids, running->xids, sizeof(TransactionId) * *n);
	return xids;
}

XLogRecPtr
boundary_of_log(void)
{
	XLogRecPtr	position = GetXLogInsertRecPtr();
	TransactionId *running;
	int			n;

	wait_for_commit_records();
	running = running_transactions(&n);
	wait_for_committed(running, n);
	pfree(running);
	return position;
}
