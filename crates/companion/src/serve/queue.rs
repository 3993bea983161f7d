//! Bounded queue in front of the one thread that owns the device. Requests are processed one after another; neighbouring encode
//! requests are batched. A request whose client has disconnected frees its place at once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode, GenerateRequest};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use self::jobs::{JobReceiver, JobSender, SendError};
use self::running::Running;
pub use self::running::RunningGeneration;
use crate::Error;
use crate::generate::{GeneratedImage, GenerationProgress, StopGeneration};

/// Work of the device thread.
pub trait DeviceWorker {
    /// Encodes requests with equal `max_sequence_length`; each has a result of its own.
    fn encode(&mut self, requests: &[EncodeRequest]) -> Vec<Result<EncodeResponse, Error>>;

    /// Generates the images of a request. `on_step` may stop it after each step, and receives a preview where `previews` is set.
    ///
    /// # Errors
    /// An invalid request, a device that fails, and [`Error::Cancelled`].
    fn generate(
        &mut self,
        request: &GenerateRequest,
        previews: bool,
        on_step: &mut dyn FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error>;

    /// Number of captions served from the cache.
    fn cache_hits(&self) -> u64;
}

/// A handle to the device thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Queue {
    jobs: Arc<JobSender>,
    metrics: Arc<QueueMetrics>,
    running: Arc<Running>,
}

/// Counters of the device thread.
#[derive(Debug, Default)]
pub struct QueueMetrics {
    pub captions: Counter,
    /// Captions served from the cache.
    pub cache_hits: Counter,
    /// Batches of encode requests.
    pub batches: Counter,
    pub images: Counter,
    pub steps: Counter,
    pub cancelled: Counter,
    pub rejected: Counter,
    pub jobs: Counter,
    /// Time spent on jobs, in seconds.
    pub busy_seconds: Counter<f64, AtomicU64>,
}

type ReplySender<T> = oneshot::Sender<Result<T, Fault>>;

/// A request with the channels of its answer.
enum DeviceJob {
    Encode {
        request: EncodeRequest,
        reply: ReplySender<EncodeResponse>,
    },
    Generate {
        request: Box<GenerateRequest>,
        /// True where [`Queue::running`] shows it.
        is_observed: bool,
        progress: mpsc::UnboundedSender<GenerationProgress>,
        reply: ReplySender<Vec<GeneratedImage>>,
    },
}

impl DeviceJob {
    /// True where no client waits for the answer.
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Encode { reply, .. } => reply.is_closed(),
            Self::Generate { reply, .. } => reply.is_closed(),
        }
    }
}

/// A queued or running generation. Dropping it cancels the generation before its next step.
pub struct PendingGeneration {
    pub progress: mpsc::UnboundedReceiver<GenerationProgress>,
    pub result: oneshot::Receiver<Result<Vec<GeneratedImage>, Fault>>,
}

impl Queue {
    /// Starts the thread, which first calls `open` and sends its result. Requests are queued meanwhile; beyond `queued_max` they
    /// are rejected at once.
    pub fn start<W: DeviceWorker, Info: Send + 'static>(
        queued_max: usize,
        open: impl FnOnce() -> Result<(W, Info), Error> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<Info, Error>>) {
        let metrics = Arc::new(QueueMetrics::default());
        let (jobs, queued) = jobs::channel(queued_max, Arc::clone(&metrics));
        let (opened, is_open) = oneshot::channel();
        let (thread_metrics, running) = (Arc::clone(&metrics), Arc::<Running>::default());
        let thread_running = Arc::clone(&running);
        thread::spawn(move || {
            lower_priority();
            match open() {
                // The receiver may have been dropped.
                Ok((worker, info)) => {
                    drop(opened.send(Ok(info)).map(|()| run_jobs(worker, queued, &thread_metrics, &thread_running)));
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
        (Self { jobs: Arc::new(jobs), metrics, running }, is_open)
    }

    /// Queues `request` and waits for its embeddings.
    ///
    /// # Errors
    /// The encoder's, a full queue ([`FaultCode::Busy`]), or a thread that has stopped.
    pub async fn encode(&self, request: EncodeRequest) -> Result<EncodeResponse, Fault> {
        let (reply, result) = oneshot::channel();
        self.send(DeviceJob::Encode { request, reply })?;
        result.await.unwrap_or_else(|_| Err(thread_stopped()))
    }

    /// Queues `request`.
    ///
    /// # Errors
    /// A full queue, or a thread that has stopped.
    pub fn generate(&self, request: GenerateRequest) -> Result<PendingGeneration, Fault> {
        self.queue_generation(request, false)
    }

    /// Queues `request`. While it is generated, [`Queue::running`] returns its progress and [`Queue::stop_running`] stops it.
    ///
    /// # Errors
    /// See [`Queue::generate`].
    pub fn generate_observed(&self, request: GenerateRequest) -> Result<PendingGeneration, Fault> {
        self.queue_generation(request, true)
    }

    fn queue_generation(&self, request: GenerateRequest, is_observed: bool) -> Result<PendingGeneration, Fault> {
        let ((sender, progress), (reply, result)) = (mpsc::unbounded_channel(), oneshot::channel());
        self.send(DeviceJob::Generate { request: Box::new(request), is_observed, progress: sender, reply })?;
        Ok(PendingGeneration { progress, result })
    }

    /// The generation of [`Queue::generate_observed`] that the device works on.
    #[must_use]
    pub fn running(&self) -> Option<RunningGeneration> {
        self.running.get()
    }

    /// Stops the generation of [`Queue::running`] after its present step.
    pub fn stop_running(&self, stop: StopGeneration) {
        self.running.stop(stop);
    }

    fn send(&self, job: DeviceJob) -> Result<(), Fault> {
        self.jobs.send(job).map_err(|error| match error {
            SendError::Full => {
                self.metrics.rejected.inc();
                let what = format!("{} requests are queued", self.queued_max());
                Fault::new(FaultCode::Busy, what, "try again later, or start the companion with a larger --queue")
            }
            SendError::Stopped => thread_stopped(),
        })
    }

    /// Number of queued requests whose client still waits.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.jobs.queued()
    }

    /// Largest number of queued requests.
    #[must_use]
    pub fn queued_max(&self) -> usize {
        self.jobs.queued_max()
    }

    /// Counters of the device thread.
    #[must_use]
    pub fn metrics(&self) -> &QueueMetrics {
        &self.metrics
    }

    /// Estimated seconds until the requests queued now are answered, from the mean duration of earlier ones.
    #[must_use]
    pub fn estimated_wait_seconds(&self) -> u64 {
        let each = self.metrics.busy_seconds.get() / self.metrics.jobs.get().max(1) as f64;
        (each * self.queued() as f64).ceil().max(1.0) as u64
    }
}

/// Fault of a request whose device thread is gone.
pub(crate) fn thread_stopped() -> Fault {
    Fault::new(FaultCode::Internal, "the device thread has stopped", "start `pixart serve` again")
}

/// Lowers the priority of this thread and of those it starts, so that the threads of the HTTP server stay responsive.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: the call changes a number of the calling thread alone. A failure leaves the priority as it was.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

fn run_jobs(mut worker: impl DeviceWorker, queued: JobReceiver, metrics: &QueueMetrics, running: &Running) {
    while let Some(job) = queued.recv() {
        let began = Instant::now();
        let mut jobs = 1;
        match job {
            DeviceJob::Encode { request, reply } => {
                let tokens = request.max_sequence_length;
                let mut batch = vec![(request, reply)];
                let fits = |job: &DeviceJob| matches!(job, DeviceJob::Encode { request, .. } if request.max_sequence_length == tokens);
                while let Some(DeviceJob::Encode { request, reply }) = queued.try_recv_if(fits) {
                    batch.push((request, reply));
                }
                jobs = batch.len() as u64;
                encode(&mut worker, batch, metrics);
            }
            DeviceJob::Generate { request, is_observed, progress, reply } => {
                if is_observed {
                    running.begin(request.image_indices().len() as u32);
                }
                let observed = is_observed.then_some(running);
                generate(&mut worker, &request, &progress, reply, (metrics, observed));
            }
        }
        metrics.jobs.inc_by(jobs);
        metrics.busy_seconds.inc_by(began.elapsed().as_secs_f64());
    }
}

fn encode(
    worker: &mut impl DeviceWorker,
    batch: Vec<(EncodeRequest, ReplySender<EncodeResponse>)>,
    metrics: &QueueMetrics,
) {
    let (requests, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let captions: usize = requests.iter().map(|request| request.captions.len()).sum();
    for (result, reply) in worker.encode(&requests).into_iter().zip(replies) {
        // The client may have disconnected meanwhile.
        reply.send(result.map_err(Fault::from)).ok();
    }
    metrics.captions.inc_by(captions as u64);
    metrics.batches.inc();
    metrics.cache_hits.inner().store(worker.cache_hits(), Ordering::Relaxed);
}

fn generate(
    worker: &mut impl DeviceWorker,
    request: &GenerateRequest,
    progress: &mpsc::UnboundedSender<GenerationProgress>,
    reply: ReplySender<Vec<GeneratedImage>>,
    (metrics, observed): (&QueueMetrics, Option<&Running>),
) {
    let result = worker.generate(request, observed.is_some(), &mut |mut step| {
        metrics.steps.inc();
        let preview = step.preview.take();
        let stop = observed.and_then(|running| running.step(step.clone(), preview));
        // A client may read no progress; whether it still waits is seen by the reply channel.
        progress.send(step).ok();
        let stop = if reply.is_closed() { Some(StopGeneration::Cancel) } else { stop };
        stop.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    });
    match &result {
        Ok(images) => metrics.images.inc_by(images.len() as u64),
        Err(Error::Cancelled) => metrics.cancelled.inc(),
        Err(_) => 0,
    };
    // A client that has its answer sees no generation running.
    if let Some(running) = observed {
        running.end();
    }
    // As above.
    reply.send(result.map_err(Fault::from)).ok();
    metrics.cache_hits.inner().store(worker.cache_hits(), Ordering::Relaxed);
}

mod jobs;
mod running;
#[cfg(test)]
mod tests;
