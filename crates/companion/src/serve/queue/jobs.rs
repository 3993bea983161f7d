//! The bounded list of jobs between the server and the device thread. Unlike a channel's, a place is free again as soon as the
//! client of its job has disconnected, also while the device is busy with another job.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{DeviceJob, QueueMetrics};

/// Error of [`JobSender::send`].
pub(super) enum SendError {
    /// As many jobs are queued as may be.
    Full,
    /// The receiver was dropped.
    Stopped,
}

struct Shared {
    state: Mutex<State>,
    /// A job was sent, or an end was dropped.
    changed: Condvar,
    queued_max: usize,
    metrics: Arc<QueueMetrics>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<DeviceJob>,
    sender_dropped: bool,
    receiver_dropped: bool,
}

/// The server's end. Dropping it ends the receiver once the queued jobs are done.
pub(super) struct JobSender(Arc<Shared>);

/// The device thread's end. Dropping it drops the queued jobs, which answers their clients.
pub(super) struct JobReceiver(Arc<Shared>);

/// Makes a list of at most `queued_max` jobs. Jobs that are dropped because nobody waits for them are counted in `metrics`.
pub(super) fn channel(queued_max: usize, metrics: Arc<QueueMetrics>) -> (JobSender, JobReceiver) {
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), queued_max, metrics });
    (JobSender(Arc::clone(&shared)), JobReceiver(shared))
}

impl Shared {
    /// Locks the state, without the jobs that nobody waits for.
    fn lock(&self) -> MutexGuard<'_, State> {
        // No line that changes the state panics.
        self.without_cancelled(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn without_cancelled<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let before = state.jobs.len();
        state.jobs.retain(|job| !job.is_cancelled());
        self.metrics.cancelled.inc_by((before - state.jobs.len()) as u64);
        state
    }
}

impl JobSender {
    pub(super) fn send(&self, job: DeviceJob) -> Result<(), SendError> {
        let mut state = self.0.lock();
        if state.receiver_dropped {
            return Err(SendError::Stopped);
        }
        if state.jobs.len() >= self.0.queued_max {
            return Err(SendError::Full);
        }
        state.jobs.push_back(job);
        self.0.changed.notify_one();
        Ok(())
    }

    pub(super) fn queued(&self) -> usize {
        self.0.lock().jobs.len()
    }

    pub(super) fn queued_max(&self) -> usize {
        self.0.queued_max
    }
}

impl Drop for JobSender {
    fn drop(&mut self) {
        self.0.lock().sender_dropped = true;
        self.0.changed.notify_one();
    }
}

impl JobReceiver {
    /// Waits for a job; `None` once the sender is dropped and no job is left.
    pub(super) fn recv(&self) -> Option<DeviceJob> {
        let mut state = self.0.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.sender_dropped {
                return None;
            }
            state = self.0.without_cancelled(self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Takes the next job if it is there and `fits`.
    pub(super) fn try_recv_if(&self, fits: impl Fn(&DeviceJob) -> bool) -> Option<DeviceJob> {
        let mut state = self.0.lock();
        if state.jobs.front().is_some_and(fits) { state.jobs.pop_front() } else { None }
    }
}

impl Drop for JobReceiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receiver_dropped = true;
        state.jobs.clear();
    }
}
