//! What a process uses of NVIDIA's GPUs, by NVIDIA's management library (NVML), where that is
//! installed. It is loaded when the first request is run by a process of this machine.

use std::cell::OnceCell;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nvml_wrapper::Nvml;

thread_local! {
    static NVML: OnceCell<Option<Nvml>> = const { OnceCell::new() };
}

/// The counters of the GPUs that a process uses.
pub struct Reading {
    pid: u32,
    begun: Instant,
    /// Microseconds since the epoch, which is how NVML dates its samples.
    since: u64,
    devices: Vec<(u32, Option<u64>)>,
}

/// What has been used since a reading.
pub struct Used {
    /// The time that the GPUs' cores were busy for the process, over all GPUs.
    pub busy: Duration,
    /// Joules. `None` where a GPU does not count them, or runs other processes too.
    pub energy: Option<f64>,
}

impl Reading {
    /// `None` where there is no NVML, or where the process uses no GPU.
    pub fn of(pid: libc::pid_t) -> Option<Reading> {
        let pid = u32::try_from(pid).ok()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as u64;
        with_nvml(|nvml| {
            let devices: Vec<(u32, Option<u64>)> = (0..nvml.device_count().ok()?)
                .filter(|index| processes(nvml, *index).iter().any(|other| is_of(*other, pid)))
                .map(|index| (index, own_energy(nvml, index, pid)))
                .collect();
            (!devices.is_empty()).then(|| Reading { pid, begun: Instant::now(), since, devices })
        })
    }

    pub fn used(&self) -> Option<Used> {
        with_nvml(|nvml| {
            let mut busy = Duration::ZERO;
            let mut energy = Some(0.0);
            for (index, before) in &self.devices {
                let samples = nvml.device_by_index(*index).ok()?.process_utilization_stats(self.since);
                let own: Vec<u32> = samples
                    .unwrap_or_default()
                    .iter()
                    .filter(|sample| is_of(sample.pid, self.pid))
                    .map(|sample| sample.sm_util)
                    .collect();
                if !own.is_empty() {
                    let percent = f64::from(own.iter().sum::<u32>()) / own.len() as f64;
                    busy += self.begun.elapsed().mul_f64(percent / 100.0);
                }
                let after = own_energy(nvml, *index, self.pid);
                let more = before.zip(after).and_then(|(before, after)| after.checked_sub(before));
                energy = energy.zip(more).map(|(sum, millijoules)| sum + millijoules as f64 / 1000.0);
            }
            Some(Used { busy, energy })
        })
    }
}

fn with_nvml<T>(action: impl FnOnce(&Nvml) -> Option<T>) -> Option<T> {
    NVML.with(|nvml| action(nvml.get_or_init(|| Nvml::init().ok()).as_ref()?))
}

fn processes(nvml: &Nvml, index: u32) -> Vec<u32> {
    let running = nvml.device_by_index(index).and_then(|device| device.running_compute_processes());
    running.unwrap_or_default().iter().map(|process| process.pid).collect()
}

/// The energy that a GPU has used, in millijoules, if only this process and its children use it.
fn own_energy(nvml: &Nvml, index: u32, pid: u32) -> Option<u64> {
    if !processes(nvml, index).iter().all(|other| is_of(*other, pid)) {
        return None;
    }
    nvml.device_by_index(index).ok()?.total_energy_consumption().ok()
}

/// Whether a process is this one or a descendant of it: vLLM's server has its engine in a child.
fn is_of(mut process: u32, pid: u32) -> bool {
    while process > 1 {
        if process == pid {
            return true;
        }
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
        // The name, in parentheses, may hold anything; the parent is the second field after it.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        process = parent.unwrap_or(0);
    }
    false
}
