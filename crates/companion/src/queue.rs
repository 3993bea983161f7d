//! The way to the one thread that owns the device: requests go in by a channel and are answered one after another.

use std::sync::mpsc as ready;
use std::thread;

use pixart_protocol::{EncodeReply, EncodeRequest, Fault, FaultCode};
use tokio::sync::{mpsc, oneshot};

use crate::Error;

/// Requests that may wait; the next one is refused at once, so that a page learns that the companion is busy.
const WAITING_MAX: usize = 8;

/// A handle to the device thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Queue {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    request: EncodeRequest,
    reply: oneshot::Sender<Result<EncodeReply, Fault>>,
}

impl Queue {
    /// Starts the thread, opens the encoder on it, and waits until that is done.
    pub fn start<Encode>(open: impl FnOnce() -> Result<Encode, Error> + Send + 'static) -> Result<Self, Error>
    where
        Encode: FnMut(&EncodeRequest) -> Result<EncodeReply, Error>,
    {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING_MAX);
        let (opened, is_open) = ready::channel();
        thread::spawn(move || {
            let mut encode = match open() {
                Ok(encode) => encode,
                Err(error) => return opened.send(Err(error)),
            };
            opened.send(Ok(()))?;
            while let Some(Job { request, reply }) = waiting.blocking_recv() {
                if !reply.is_closed() {
                    // The asker may leave while its captions are encoded: then nobody is there to be told.
                    reply.send(encode(&request).map_err(Fault::from)).ok();
                }
            }
            Ok(())
        });
        is_open.recv().unwrap_or(Err(Error::ThreadStopped))?;
        Ok(Self { jobs })
    }

    /// Encodes `request` after those that came before it.
    pub async fn encode(&self, request: EncodeRequest) -> Result<EncodeReply, Fault> {
        let stopped = || Fault::new(FaultCode::Internal, "the device thread has stopped", "start `pixart serve` again");
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { request, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Fault::new(FaultCode::Companion, format!("{WAITING_MAX} requests are waiting"), "try again later")
            }
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn lengths(request: &EncodeRequest) -> Result<EncodeReply, Error> {
        let embeds: Vec<f32> = request.captions.iter().map(|caption| caption.len() as f32).collect();
        Ok(EncodeReply { shape: [embeds.len() as u32, 1, 1], mask: vec![1.0; embeds.len()], embeds })
    }

    fn request(captions: &[&str]) -> EncodeRequest {
        EncodeRequest::of(captions.iter().map(|&caption| caption.to_owned()).collect())
    }

    #[test]
    fn requests_are_answered_by_the_one_thread() {
        let queue = Queue::start(|| Ok(lengths)).expect("nothing to fail");
        let reply = block_on(queue.encode(request(&["", "four"]))).expect("a reply");
        assert_eq!(reply.embeds, [0.0, 4.0]);
    }

    #[test]
    fn an_encoder_that_cannot_be_opened_is_told_at_the_start() {
        let error = Queue::start(|| Err::<fn(&EncodeRequest) -> _, _>(Error::NoGpu { why: "no driver".to_owned() }));
        assert!(error.err().expect("no GPU").to_string().contains("no driver"));
    }

    #[test]
    fn a_thread_that_has_stopped_is_a_fault_and_not_a_hang() {
        let queue = Queue::start(|| Ok(|_: &EncodeRequest| panic!("the device is gone"))).expect("opens");
        for _ in 0..2 {
            let fault = block_on(queue.encode(request(&["a"]))).expect_err("the thread is gone");
            assert_eq!((fault.code, fault.what.as_str()), (FaultCode::Internal, "the device thread has stopped"));
        }
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let (release, released) = ready::channel::<()>();
        let queue = Queue::start(move || {
            Ok(move |request: &EncodeRequest| {
                released.recv().ok(); // A closed channel releases it too.
                lengths(request)
            })
        })
        .expect("opens");
        block_on(async {
            let mut asked: Vec<_> = (0..=WAITING_MAX).map(|_| Box::pin(queue.encode(request(&["a"])))).collect();
            for future in &mut asked {
                // The first request leaves the channel when the thread takes it up, which makes room for one more.
                let taken = async {
                    while queue.jobs.capacity() == 0 {
                        futures_lite::future::yield_now().await;
                    }
                };
                taken.await;
                assert!(futures_lite::future::poll_once(future).await.is_none(), "nothing is released yet");
            }
            let fault = queue.encode(request(&["a"])).await.expect_err("one too many");
            assert_eq!(fault.code, FaultCode::Companion);
            drop(release);
            for future in asked {
                future.await.expect("released");
            }
        });
    }
}
