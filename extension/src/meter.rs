//! What a request costs, measured while it runs: for `usage.resources`.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use pgml_protocol::resources::{Basis, EngineShare, Measured};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::engine_process;
use crate::gpu;
use crate::requests::Entry;

// Off: it costs 8 µs of a backend's 130 for a completion, more than everybody should pay.
static RESOURCES: GucSetting<bool> = GucSetting::<bool>::new(false);

pub fn define_settings() {
    GucRegistry::define_bool_guc(
        c"pgml.resources",
        c"Adds what a request cost to its usage, as usage.resources.",
        c"The parameter \"resources\" of a request counts before this setting.",
        &RESOURCES,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Whether the answer tells what it cost.
pub fn is_wanted(asked: Option<bool>) -> bool {
    asked.unwrap_or_else(|| RESOURCES.get())
}

/// The figures of one request at its beginning.
pub struct Meter {
    begun: Instant,
    own_cpu: Duration,
    first_token: Option<Duration>,
    engine: Option<EngineMeter>,
}

struct EngineMeter {
    pid: libc::pid_t,
    cpu: Duration,
    gpu: Option<gpu::Reading>,
}

impl Meter {
    pub fn begin() -> Meter {
        Meter { begun: Instant::now(), own_cpu: engine_process::own_cpu(), first_token: None, engine: None }
    }

    /// Says over which connection the engine is asked. Others see in `entry` whose process it is.
    pub fn connected(&mut self, socket: RawFd, entry: &mut Entry) {
        if self.engine.is_none()
            && let Some(pid) = engine_process::behind(socket)
            && let Some(cpu) = engine_process::cpu(pid)
        {
            entry.set_engine(pid);
            self.engine = Some(EngineMeter { pid, cpu, gpu: gpu::Reading::of(pid) });
        }
    }

    /// Something has been received, after which there are this many tokens.
    pub fn received(&mut self, tokens: u64) {
        if tokens > 0 && self.first_token.is_none() {
            self.first_token = Some(self.begun.elapsed());
        }
    }

    /// The figures up to now.
    pub fn read(&self, tokens: u64, entry: &Entry) -> Measured {
        Measured {
            total: self.begun.elapsed(),
            first_token: self.first_token,
            backend_cpu: engine_process::own_cpu().saturating_sub(self.own_cpu),
            engine: self.engine.as_ref().and_then(|engine| engine.share(tokens, entry)),
        }
    }
}

impl EngineMeter {
    /// The part of what the process has used that this request is accountable for.
    fn share(&self, tokens: u64, entry: &Entry) -> Option<EngineShare> {
        let cpu = engine_process::cpu(self.pid)?.checked_sub(self.cpu)?;
        // Without shared memory (before PostgreSQL 17) nothing is known of other requests.
        let (of_all, alone) = entry.engine_tokens()?;
        let (part, basis) = match alone {
            true => (1.0, Basis::Measured),
            false => ((tokens as f64 / of_all.max(1) as f64).min(1.0), Basis::Apportioned),
        };
        let used = self.gpu.as_ref().and_then(|begin| begin.used());
        Some(EngineShare {
            cpu: cpu.mul_f64(part),
            gpu: used.as_ref().map(|used| used.busy.mul_f64(part)),
            energy: used.as_ref().and_then(|used| used.energy).map(|joules| joules * part),
            basis,
        })
    }
}
