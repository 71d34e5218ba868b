/*
 * What pgrx does not bind: pushing rows to the client, waiting for sockets as Postgres waits, and
 * reading a user mapping that may be missing. Differences between server versions end here.
 *
 * Functions that can raise an error are called through pgrx's FFI guard (see shim.rs).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
/*
 * Of the client's connection only the socket is wanted. Kerberos's headers, which this would ask
 * for, need not be there; Postgres keeps the struct the same without them.
 */
#undef ENABLE_GSS
#include "libpq/libpq-be.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* Sends the rows that wait in the send buffer, as far as the socket takes them. */
void
pgml_flush(void)
{
	if (whereToSendOutput == DestRemote)
		pq_flush_if_writable();
}

/* The wait set's own entries stand before the caller's sockets. */
#define OWN_EVENTS 3

/*
 * A wait set over sockets, the latch (cancel, timeout), the postmaster's death, and the client's
 * going away. The caller frees it.
 */
WaitEventSet *
pgml_wait_set(const int *sockets, int count)
{
	WaitEventSet *set;
	bool		watch_client = MyProcPort != NULL && WaitEventSetCanReportClosed();

#if PG_VERSION_NUM >= 170000
	set = CreateWaitEventSet(NULL, OWN_EVENTS + count);
#else
	set = CreateWaitEventSet(TopMemoryContext, OWN_EVENTS + count);
#endif
	for (int i = 0; i < count; i++)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, sockets[i], NULL, NULL);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (watch_client)
		AddWaitEventToSet(set, WL_SOCKET_CLOSED, MyProcPort->sock, NULL, NULL);
	return set;
}

/* Whether to wait for a socket to take bytes too. */
void
pgml_wait_writable(WaitEventSet *set, int position, bool writable)
{
	ModifyWaitEvent(set, position, writable ? WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE, NULL);
}

/* For a backend that is terminated: its last message. */
static void
name_request(void *request_id)
{
	errcontext("pgml request %s", (char *) request_id);
}

/* Adds the request to an error that Postgres raised, in the detail, where our own have it. */
static void
rethrow_with_request(MemoryContext context, const char *request_id)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->detail = error->detail ? psprintf("%s\nRequest: %s", error->detail, request_id)
		: psprintf("Request: %s", request_id);
	ReThrowError(error);
}

/* The milliseconds of a time limit that are left since it began. */
static long
time_left(instr_time begun, long timeout_ms)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, begun);
	return Max(timeout_ms - (long) INSTR_TIME_GET_MILLISEC(now), 0);
}

/*
 * Waits until a socket is ready: true, or until the time is over: false. Raises an error when the
 * statement is cancelled, and ends the backend when its client is gone; both name the request.
 *
 * The time limit is a deadline: a latch that is set for another reason (a NOTIFY, say) does not
 * extend it.
 */
bool
pgml_wait(WaitEventSet *set, long timeout_ms, char *request_id)
{
	ErrorContextCallback context = {error_context_stack, name_request, request_id};
	MemoryContext memory = CurrentMemoryContext;
	WaitEvent	event;
	instr_time	begun;
	volatile bool ready = false;

	INSTR_TIME_SET_CURRENT(begun);
	error_context_stack = &context;
	PG_TRY();
	{
		for (;;)
		{
			CHECK_FOR_INTERRUPTS();
			ready = WaitEventSetWait(set, time_left(begun, timeout_ms), &event, 1, PG_WAIT_EXTENSION) > 0;
			if (!ready)
				break;
			if (event.events & WL_LATCH_SET)
			{
				ResetLatch(MyLatch);
				continue;
			}
			if (event.events & WL_SOCKET_CLOSED)
			{
				ClientConnectionLost = true;
				InterruptPending = true;
				continue;
			}
			break;
		}
	}
	PG_CATCH();
	{
		rethrow_with_request(memory, request_id);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	return ready;
}

void
pgml_wait_free(WaitEventSet *set)
{
	FreeWaitEventSet(set);
}

/*
 * Calls back with each option of a role's user mapping, or of that for PUBLIC. GetUserMapping()
 * would raise an error for a role without a mapping, which is no error here.
 */
void
pgml_user_mapping(Oid role, Oid server, void (*option) (void *, const char *, const char *), void *context)
{
	HeapTuple	tuple;
	Datum		datum;
	bool		isnull;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
	{
		ListCell   *cell;

		foreach(cell, untransformRelOptions(datum))
		{
			DefElem    *element = (DefElem *) lfirst(cell);

			option(context, element->defname, defGetString(element));
		}
	}
	ReleaseSysCache(tuple);
}
