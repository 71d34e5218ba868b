/*
 * The requests in flight, in shared memory, for the view pgml.stat_requests.
 *
 * PostgreSQL 17 and later give an extension named shared memory without shared_preload_libraries.
 * On older ones nothing is recorded, and the view says so.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/acl.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 170000
#include "storage/dsm_registry.h"
#include "storage/proc.h"
#endif

#define ID_SIZE 129
/* Names as long as this are shown whole. */
#define MODEL_SIZE 193

/* requests.rs has the same struct. */
typedef struct
{
	int			pid;			/* 0: the slot is free */
	Oid			role;
	Oid			database;
	TimestampTz started;
	uint64		tokens;
	char		id[ID_SIZE];
	char		model[MODEL_SIZE];
} InFlight;

typedef struct
{
	pg_atomic_uint64 tokens;	/* written without the lock, by its backend only */
	InFlight	request;
} Slot;

typedef struct
{
	LWLock		lock;
	int			count;
	Slot		slots[FLEXIBLE_ARRAY_MEMBER];
} Requests;

bool		pgml_requests_known(void);
int			pgml_request_begin(const char *id, const char *model);
void		pgml_request_tokens(int slot, uint64 tokens);
void		pgml_request_end(int slot);
bool		pgml_request_get(int slot, InFlight *request);

#if PG_VERSION_NUM >= 170000

static Requests *requests = NULL;

/* Each connection has one, and some may have more: by cursors, or by functions that call others. */
static int
slot_count(void)
{
	return 2 * MaxBackends;
}

static void
initialize(void *memory)
{
	Requests   *new = memory;

	memset(new->slots, 0, slot_count() * sizeof(Slot));
	for (int i = 0; i < slot_count(); i++)
		pg_atomic_init_u64(&new->slots[i].tokens, 0);
	new->count = slot_count();
	LWLockInitialize(&new->lock, LWLockNewTrancheId());
}

/* A backend that ends with requests in flight (it is terminated, say) takes them along. */
static void
forget_own(int code, Datum arg)
{
	LWLockAcquire(&requests->lock, LW_EXCLUSIVE);
	for (int i = 0; i < requests->count; i++)
		if (requests->slots[i].request.pid == MyProcPid)
			requests->slots[i].request.pid = 0;
	LWLockRelease(&requests->lock);
}

static void
attach(void)
{
	bool		found;

	if (requests != NULL)
		return;
	requests = GetNamedDSMSegment("pgml", offsetof(Requests, slots) + slot_count() * sizeof(Slot),
								  initialize, &found);
	LWLockRegisterTranche(requests->lock.tranche, "pgml");
	before_shmem_exit(forget_own, (Datum) 0);
}

bool
pgml_requests_known(void)
{
	return true;
}

/* Records a request of this backend. The slot that it is in, or -1 if all are taken. */
int
pgml_request_begin(const char *id, const char *model)
{
	int			slot = -1;

	attach();
	LWLockAcquire(&requests->lock, LW_EXCLUSIVE);
	for (int i = 0; i < requests->count; i++)
	{
		/* Begun at a place of its own, a search ends at once, nearly always. */
		Slot	   *free = &requests->slots[(MyProcNumber + i) % requests->count];
		InFlight   *request = &free->request;

		if (request->pid != 0)
			continue;
		pg_atomic_write_u64(&free->tokens, 0);
		request->role = GetUserId();
		request->database = MyDatabaseId;
		request->started = GetCurrentTimestamp();
		strlcpy(request->id, id, ID_SIZE);
		strlcpy(request->model, model, MODEL_SIZE);
		request->pid = MyProcPid;
		slot = free - requests->slots;
		break;
	}
	LWLockRelease(&requests->lock);
	return slot;
}

void
pgml_request_tokens(int slot, uint64 tokens)
{
	pg_atomic_write_u64(&requests->slots[slot].tokens, tokens);
}

void
pgml_request_end(int slot)
{
	LWLockAcquire(&requests->lock, LW_EXCLUSIVE);
	requests->slots[slot].request.pid = 0;
	LWLockRelease(&requests->lock);
}

/*
 * Copies the request in a slot, or one that is free or that the current role may not see. False
 * after the last slot. Who may see a request is whom pg_stat_activity would show its query.
 */
bool
pgml_request_get(int slot, InFlight *request)
{
	attach();
	if (slot >= requests->count)
		return false;
	LWLockAcquire(&requests->lock, LW_SHARED);
	*request = requests->slots[slot].request;
	LWLockRelease(&requests->lock);
	request->tokens = pg_atomic_read_u64(&requests->slots[slot].tokens);
	if (request->pid != 0 && !has_privs_of_role(GetUserId(), request->role) &&
		!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		request->pid = 0;
	return true;
}

#else

bool
pgml_requests_known(void)
{
	return false;
}

int
pgml_request_begin(const char *id, const char *model)
{
	return -1;
}

void
pgml_request_tokens(int slot, uint64 tokens)
{
}

void
pgml_request_end(int slot)
{
}

bool
pgml_request_get(int slot, InFlight *request)
{
	return false;
}

#endif
