//! The requests in flight, in shared memory (PostgreSQL 17 and later).
//!
//! `GetNamedDSMSegment` gives an extension shared memory without shared_preload_libraries. A server
//! keeps the segment until it stops, also while the library is replaced by a newer one, so the
//! segment's name contains the version and the size of the structs below.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::{offset_of, size_of};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pgrx::pg_sys::{self, LWLockMode};

/// To be raised with every change of the structs that keeps their size.
const LAYOUT: u32 = 3;

/// How many engine processes can be told apart.
const ENGINES: usize = 64;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct InFlight {
    /// 0: the slot is free.
    pub pid: c_int,
    pub role: pg_sys::Oid,
    pub database: pg_sys::Oid,
    pub started: pg_sys::TimestampTz,
    /// The place of its engine's process in [`Shared::engines`], from 1; 0: it has none.
    engine: u32,
    id: [c_char; 129],
    /// Longer names are cut.
    model: [c_char; 193],
}

impl InFlight {
    pub fn id(&self) -> String {
        text(&self.id)
    }

    pub fn model(&self) -> String {
        text(&self.model)
    }
}

#[repr(C)]
struct Slot {
    /// Written without the lock, by its backend only.
    tokens: AtomicU64,
    request: InFlight,
}

/// A process that runs models, and what this server has had of it.
#[repr(C)]
struct EngineProcess {
    pid: c_int,
    in_flight: u32,
    /// Requests begun, over all time.
    begun: u64,
    tokens: AtomicU64,
}

#[repr(C)]
struct Shared {
    lock: pg_sys::LWLock,
    count: u32,
    engines: [EngineProcess; ENGINES],
    slots: [Slot; 0],
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

/// Each connection has one request, and some have more: by cursors, or by functions that call others.
fn slot_count() -> u32 {
    // SAFETY: set once, when the server starts.
    2 * unsafe { pg_sys::MaxBackends } as u32
}

unsafe extern "C-unwind" fn initialize(memory: *mut c_void) {
    let shared: *mut Shared = memory.cast();
    // SAFETY: the segment is ours alone until this returns, and as large as `attach` asked for.
    unsafe {
        ptr::write_bytes(memory.cast::<u8>(), 0, segment_size());
        (*shared).count = slot_count();
        pg_sys::LWLockInitialize(&raw mut (*shared).lock, pg_sys::LWLockNewTrancheId());
    }
}

fn segment_size() -> usize {
    offset_of!(Shared, slots) + slot_count() as usize * size_of::<Slot>()
}

fn attach() -> *mut Shared {
    let attached = SHARED.load(Ordering::Relaxed);
    if !attached.is_null() {
        return attached;
    }
    let name = format!("pgml requests {LAYOUT}/{}/{}", size_of::<Shared>(), size_of::<Slot>());
    let name = CString::new(name).unwrap_or_default();
    let mut found = false;
    // SAFETY: `initialize` fills a segment of this size; Postgres copies the name, and keeps a
    // pointer to that of the tranche, which is a constant.
    unsafe {
        let shared: *mut Shared =
            pg_sys::GetNamedDSMSegment(name.as_ptr(), segment_size(), Some(initialize), &mut found).cast();
        pg_sys::LWLockRegisterTranche((*shared).lock.tranche.into(), c"pgml".as_ptr());
        SHARED.store(shared, Ordering::Relaxed);
        pg_sys::before_shmem_exit(Some(forget_own), pg_sys::Datum::null());
        shared
    }
}

/// Runs `action` with the lock held. It must not raise an error.
fn locked<T>(mode: LWLockMode::Type, action: impl FnOnce(&mut Shared) -> T) -> T {
    let shared = attach();
    // SAFETY: the segment stays mapped until the backend ends. The lock makes the reference
    // exclusive, or shared with other readers; `tokens` are atomic.
    unsafe {
        pg_sys::LWLockAcquire(&raw mut (*shared).lock, mode);
        let result = action(&mut *shared);
        pg_sys::LWLockRelease(&raw mut (*shared).lock);
        result
    }
}

impl Shared {
    fn slots(&mut self) -> &mut [Slot] {
        // SAFETY: the segment has this many slots behind the struct.
        unsafe { std::slice::from_raw_parts_mut(self.slots.as_mut_ptr(), self.count as usize) }
    }

    fn free(&mut self, slot: usize) {
        let request = &mut self.slots()[slot].request;
        request.pid = 0;
        if let Some(engine) = std::mem::take(&mut request.engine).checked_sub(1) {
            self.engines[engine as usize].in_flight -= 1;
        }
    }
}

/// Removes the requests of a backend that ends with some in flight (it is terminated, say).
unsafe extern "C-unwind" fn forget_own(_: c_int, _: pg_sys::Datum) {
    locked(LWLockMode::LW_EXCLUSIVE, |shared| {
        // SAFETY: set when the backend started.
        let own = unsafe { pg_sys::MyProcPid };
        for slot in 0..shared.count as usize {
            if shared.slots()[slot].request.pid == own {
                shared.free(slot);
            }
        }
    });
}

pub const fn is_available() -> bool {
    true
}

/// Records a request of this backend. `None` if all slots are taken.
pub fn begin(id: &CStr, model: &str) -> Option<usize> {
    // SAFETY: these read variables of this backend.
    let (pid, role, database, started, start) = unsafe {
        (
            pg_sys::MyProcPid,
            pg_sys::GetUserId(),
            pg_sys::MyDatabaseId,
            pg_sys::GetCurrentTimestamp(),
            pg_sys::MyProcNumber.max(0) as usize,
        )
    };
    locked(LWLockMode::LW_EXCLUSIVE, |shared| {
        let slots = shared.slots();
        let count = slots.len();
        // Start at this backend's own slot; it is usually free.
        let place = (0..count).map(|i| (start + i) % count).find(|place| slots[*place].request.pid == 0)?;
        slots[place].tokens.store(0, Ordering::Relaxed);
        slots[place].request = InFlight {
            pid,
            role,
            database,
            started,
            engine: 0,
            id: bounded(id.to_bytes()),
            model: bounded(model.as_bytes()),
        };
        Some(place)
    })
}

/// What had been had of an engine's process when a request began to use it.
pub struct EngineUse {
    place: usize,
    begun: u64,
    tokens: u64,
    was_alone: bool,
}

/// Records that a request is run by this process. `None` if too many processes are in use.
pub fn use_engine(slot: usize, pid: c_int) -> Option<EngineUse> {
    locked(LWLockMode::LW_EXCLUSIVE, |shared| {
        let known = shared.engines.iter().position(|engine| engine.pid == pid);
        let place = known.or_else(|| shared.engines.iter().position(|engine| engine.in_flight == 0))?;
        let engine = &mut shared.engines[place];
        engine.pid = pid;
        engine.begun += 1;
        let was_alone = engine.in_flight == 0;
        engine.in_flight += 1;
        let used = EngineUse {
            place,
            begun: engine.begun,
            tokens: engine.tokens.load(Ordering::Relaxed),
            was_alone,
        };
        shared.slots()[slot].request.engine = place as u32 + 1;
        Some(used)
    })
}

impl EngineUse {
    /// The tokens that the process has made for all requests since, and whether this one had it to
    /// itself.
    pub fn since(&self) -> (u64, bool) {
        locked(LWLockMode::LW_SHARED, |shared| {
            let engine = &shared.engines[self.place];
            let tokens = engine.tokens.load(Ordering::Relaxed).wrapping_sub(self.tokens);
            (tokens, self.was_alone && engine.begun == self.begun)
        })
    }
}

/// Says how many tokens of a request have come, `more` of them since the last time.
pub fn add_tokens(slot: usize, total: u64, more: u64, engine: Option<&EngineUse>) {
    let shared = SHARED.load(Ordering::Relaxed);
    // SAFETY: a slot exists only once the segment is attached. The fields are atomic.
    unsafe {
        let slots = (&raw const (*shared).slots).cast::<Slot>();
        (*slots.add(slot)).tokens.store(total, Ordering::Relaxed);
        if let Some(engine) = engine {
            (&(*shared).engines)[engine.place].tokens.fetch_add(more, Ordering::Relaxed);
        }
    }
}

pub fn end(slot: usize) {
    locked(LWLockMode::LW_EXCLUSIVE, |shared| shared.free(slot));
}

/// The requests that the current role may see, each with its tokens. These are those whose query
/// pg_stat_activity would show to it.
pub fn visible() -> Vec<(InFlight, u64)> {
    let all: Vec<(InFlight, u64)> = locked(LWLockMode::LW_SHARED, |shared| {
        let used = shared.slots().iter().filter(|slot| slot.request.pid != 0);
        used.map(|slot| (slot.request, slot.tokens.load(Ordering::Relaxed))).collect()
    });
    // Outside of the lock: these look into the catalog, and can raise an error.
    all.into_iter()
        .filter(|(request, _)| {
            // SAFETY: reads the catalog within a transaction.
            unsafe {
                let role = pg_sys::GetUserId();
                pg_sys::has_privs_of_role(role, request.role)
                    || pg_sys::has_privs_of_role(role, pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS))
            }
        })
        .collect()
}

/// The beginning of a text, ended with NUL.
fn bounded<const N: usize>(text: &[u8]) -> [c_char; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes[..N - 1].iter_mut().zip(text) {
        *to = *from as c_char;
    }
    bytes
}

fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
