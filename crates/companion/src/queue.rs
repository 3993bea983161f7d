//! The way to the one thread that owns the device: requests go in by a bounded channel and are answered one after another,
//! prompts that wait side by side together. Whoever no longer waits for an answer is not worked for.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode, GenerateRequest};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::generate::{Picture, Progress};

/// What the thread does.
pub trait Work {
    /// Answers requests of one `max_sequence_length`, each on its own.
    fn encode(&mut self, requests: &[EncodeRequest]) -> Vec<Result<EncodeResponse, Error>>;

    /// Draws, and breaks off where `stepped` says so.
    ///
    /// # Errors
    /// A request that cannot be drawn, a device that fails, and [`Error::Cancelled`].
    fn draw(
        &mut self,
        request: &GenerateRequest,
        stepped: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, Error>;

    /// Captions that were answered from memory.
    fn hits(&self) -> u64;
}

/// A handle to the device thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Queue {
    jobs: mpsc::Sender<Job>,
    tally: Arc<Tally>,
}

/// What the thread has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub captions: Counter,
    /// Captions that were answered from memory.
    pub hits: Counter,
    /// Times that the text encoder's requests were taken up, of which one may be for several.
    pub batches: Counter,
    pub pictures: Counter,
    pub steps: Counter,
    pub cancelled: Counter,
    pub refused: Counter,
    pub jobs: Counter,
    /// Seconds of work.
    pub busy: Counter<f64, AtomicU64>,
}

type Answer<T> = oneshot::Sender<Result<T, Fault>>;

enum Job {
    Encode { request: EncodeRequest, answer: Answer<EncodeResponse> },
    Draw { request: Box<GenerateRequest>, told: mpsc::UnboundedSender<Progress>, answer: Answer<Vec<Picture>> },
}

/// A picture on its way. Dropping it cancels the picture before its next step.
pub struct Drawing {
    pub told: mpsc::UnboundedReceiver<Progress>,
    pub answer: oneshot::Receiver<Result<Vec<Picture>, Fault>>,
}

impl Queue {
    /// Starts the thread, which first opens what it works with and tells how that went. Requests wait meanwhile, so many as
    /// `waiting_max`; the next one is refused at once.
    pub fn start<W: Work, About: Send + 'static>(
        waiting_max: usize,
        open: impl FnOnce() -> Result<(W, About), Error> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<About, Error>>) {
        let (jobs, waiting) = mpsc::channel::<Job>(waiting_max);
        let (opened, is_open) = oneshot::channel();
        let tally = Arc::new(Tally::default());
        let kept = Arc::clone(&tally);
        thread::spawn(move || {
            yield_to_others();
            match open() {
                // Nobody may be left to be told.
                Ok((work, about)) => drop(opened.send(Ok(about)).map(|()| serve(work, waiting, &kept))),
                Err(error) => drop(opened.send(Err(error))),
            }
        });
        (Self { jobs, tally }, is_open)
    }

    /// Encodes `request` after those that came before it.
    ///
    /// # Errors
    /// The encoder's, a full queue ([`FaultCode::Busy`]), or a thread that has stopped.
    pub async fn encode(&self, request: EncodeRequest) -> Result<EncodeResponse, Fault> {
        let (answer, reply) = oneshot::channel();
        self.send(Job::Encode { request, answer })?;
        reply.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Draws `request` after those that came before it.
    ///
    /// # Errors
    /// A full queue, or a thread that has stopped.
    pub fn draw(&self, request: GenerateRequest) -> Result<Drawing, Fault> {
        let ((told, progress), (answer, reply)) = (mpsc::unbounded_channel(), oneshot::channel());
        self.send(Job::Draw { request: Box::new(request), told, answer })?;
        Ok(Drawing { told: progress, answer: reply })
    }

    fn send(&self, job: Job) -> Result<(), Fault> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.tally.refused.inc();
                let what = format!("{} requests are waiting", self.jobs.max_capacity());
                Fault::new(FaultCode::Busy, what, "try again later")
            }
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Seconds until those that wait now are answered, by the time that the ones before them took.
    #[must_use]
    pub fn seconds_left(&self) -> u64 {
        let each = self.tally.busy.get() / self.tally.jobs.get().max(1) as f64;
        (each * self.waiting() as f64).ceil().max(1.0) as u64
    }
}

pub(crate) fn stopped() -> Fault {
    Fault::new(FaultCode::Internal, "the device thread has stopped", "start `pixart serve` again")
}

/// Lets threads that answer go first: this one, and those it starts, compute without a pause.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    // SAFETY: a number for the calling thread alone. Where it is refused all threads are alike.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

fn serve(mut work: impl Work, mut waiting: mpsc::Receiver<Job>, tally: &Tally) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| waiting.blocking_recv()) {
        let began = Instant::now();
        let mut jobs = 1;
        match job {
            Job::Encode { request, answer } => {
                let tokens = request.max_sequence_length;
                let mut batch = vec![(request, answer)];
                while let Ok(job) = waiting.try_recv() {
                    match job {
                        Job::Encode { request, answer } if request.max_sequence_length == tokens => {
                            batch.push((request, answer));
                        }
                        other => {
                            next = Some(other);
                            break;
                        }
                    }
                }
                batch.retain(|(_, answer)| !answer.is_closed());
                jobs = batch.len() as u64;
                encode(&mut work, batch, tally);
            }
            Job::Draw { request, told, answer } => draw(&mut work, &request, &told, answer, tally),
        }
        tally.jobs.inc_by(jobs);
        tally.busy.inc_by(began.elapsed().as_secs_f64());
    }
}

fn encode(work: &mut impl Work, batch: Vec<(EncodeRequest, Answer<EncodeResponse>)>, tally: &Tally) {
    let (requests, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    if requests.is_empty() {
        return;
    }
    let captions: usize = requests.iter().map(|request| request.captions.len()).sum();
    for (reply, answer) in work.encode(&requests).into_iter().zip(answers) {
        // The asker may have left meanwhile: then nobody is there to be told.
        answer.send(reply.map_err(Fault::from)).ok();
    }
    tally.captions.inc_by(captions as u64);
    tally.batches.inc();
    tally.hits.inner().store(work.hits(), Ordering::Relaxed);
}

fn draw(
    work: &mut impl Work,
    request: &GenerateRequest,
    told: &mpsc::UnboundedSender<Progress>,
    answer: Answer<Vec<Picture>>,
    tally: &Tally,
) {
    if answer.is_closed() {
        tally.cancelled.inc();
        return;
    }
    let drawn = work.draw(request, &mut |progress| {
        tally.steps.inc();
        // Not every asker wants to know; whether one still waits is told by the answer's other end.
        told.send(progress).ok();
        if answer.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match &drawn {
        Ok(pictures) => tally.pictures.inc_by(pictures.len() as u64),
        Err(Error::Cancelled) => tally.cancelled.inc(),
        Err(_) => 0,
    };
    // As above.
    answer.send(drawn.map_err(Fault::from)).ok();
    tally.hits.inner().store(work.hits(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
