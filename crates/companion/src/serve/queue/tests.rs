use futures_lite::future::{block_on, poll_once, yield_now};
use std::sync::mpsc as ready;

use super::*;

const QUEUED_MAX: usize = 4;

/// Encodes a caption as its length and generates no image. Each call first waits for `released`, and sends how many requests it
/// was given.
struct FakeWorker {
    released: ready::Receiver<()>,
    given: ready::Sender<usize>,
}

impl DeviceWorker for FakeWorker {
    fn encode(&mut self, requests: &[EncodeRequest]) -> Vec<Result<EncodeResponse, Error>> {
        self.given.send(requests.len()).ok();
        self.released.recv().ok(); // A closed channel releases it too.
        let reply = |request: &EncodeRequest| {
            assert_ne!(request.captions, ["panic"], "the device is gone");
            let embeds: Vec<f32> = request.captions.iter().map(|caption| caption.len() as f32).collect();
            Ok(EncodeResponse {
                shape: [embeds.len() as u32, 1, 1],
                attention_mask: vec![1.0; embeds.len()],
                embeds,
                token_counts: Vec::new(),
            })
        };
        requests.iter().map(reply).collect()
    }

    fn generate(
        &mut self,
        request: &GenerateRequest,
        _previews: bool,
        on_step: &mut dyn FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error> {
        self.given.send(1).ok();
        for step in 1..=request.num_inference_steps {
            let total_steps = request.num_inference_steps;
            if on_step(GenerationProgress { image_index: 0, step, total_steps, pass: 1, preview: None }).is_break() {
                return Err(Error::Cancelled);
            }
            self.released.recv().ok();
        }
        Ok(Vec::new())
    }

    fn cache_hits(&self) -> u64 {
        0
    }
}

/// A queue, the sender that releases its worker, and the sizes of the batches that the worker was given.
fn queue() -> (Queue, ready::Sender<()>, ready::Receiver<usize>) {
    let ((release, released), (sender, given)) = (ready::channel(), ready::channel());
    let (queue, opened) = Queue::start(QUEUED_MAX, move || Ok((FakeWorker { released, given: sender }, "info")));
    let info = block_on(opened).expect("the result is sent").expect("nothing to fail");
    assert_eq!(info, "info");
    (queue, release, given)
}

fn request(captions: &[&str]) -> EncodeRequest {
    EncodeRequest::of(captions.iter().map(|&caption| caption.to_owned()).collect())
}

#[test]
fn requests_are_answered_by_the_one_thread() {
    let (queue, release, _) = queue();
    drop(release);
    let reply = block_on(queue.encode(request(&["", "four"]))).expect("a reply");
    assert_eq!(reply.embeds, [0.0, 4.0]);
}

#[test]
fn a_failure_to_open_is_returned() {
    let open = || Err::<(FakeWorker, ()), _>(Error::NoGpu { why: "no driver".to_owned() });
    let (queue, opened) = Queue::start(QUEUED_MAX, open);
    let error = block_on(opened).expect("the result is sent").expect_err("no GPU");
    assert!(error.to_string().contains("no driver"));
    let fault = block_on(queue.encode(request(&["a"]))).expect_err("the thread has ended");
    assert_eq!(fault.code, FaultCode::Internal);
}

#[test]
fn a_thread_that_has_stopped_is_a_fault_and_not_a_hang() {
    let (queue, release, _) = queue();
    drop(release);
    for captions in [["panic"], ["a"]] {
        let fault = block_on(queue.encode(request(&captions))).expect_err("the thread is gone");
        assert_eq!((fault.code, fault.what.as_str()), (FaultCode::Internal, "the device thread has stopped"));
    }
}

#[test]
fn queued_encode_requests_are_batched_and_one_beyond_the_limit_is_rejected() {
    let (queue, release, given) = queue();
    block_on(async {
        let mut first = Box::pin(queue.encode(request(&["a"])));
        assert!(poll_once(&mut first).await.is_none(), "nothing is released yet");
        assert_eq!(given.recv(), Ok(1), "it is processed alone");
        let mut pending: Vec<_> = (0..QUEUED_MAX).map(|_| Box::pin(queue.encode(request(&["bb"])))).collect();
        for future in &mut pending {
            assert!(poll_once(future).await.is_none());
        }
        assert_eq!(queue.queued(), QUEUED_MAX);
        let fault = queue.encode(request(&["a"])).await.expect_err("one too many");
        assert_eq!((fault.code, queue.metrics().rejected.get()), (FaultCode::Busy, 1));

        pending.pop(); // A dropped request is skipped.
        release.send(()).expect("the thread waits");
        assert_eq!(first.await.expect("released").embeds, [1.0]);
        assert_eq!(given.recv(), Ok(QUEUED_MAX - 1));
        drop(release);
        for future in pending {
            assert_eq!(future.await.expect("released").embeds, [2.0]);
        }
    });
}

#[test]
fn a_client_that_disconnects_frees_its_place_while_the_device_is_busy() {
    let (queue, release, given) = queue();
    block_on(async {
        let mut busy = Box::pin(queue.encode(request(&["a"])));
        assert!(poll_once(&mut busy).await.is_none());
        assert_eq!(given.recv(), Ok(1), "the device is busy from here on");
        for round in 0..3 {
            let generations: Vec<_> = (0..QUEUED_MAX)
                .map(|_| queue.generate(GenerateRequest::of("p")).unwrap_or_else(|fault| panic!("{round}: {fault}")))
                .collect();
            assert_eq!(queue.generate(GenerateRequest::of("p")).err().map(|fault| fault.code), Some(FaultCode::Busy));
            drop(generations);
            assert_eq!(queue.queued(), 0);
        }
        assert_eq!(queue.metrics().cancelled.get(), 3 * QUEUED_MAX as u64);
        let last = queue.encode(request(&["last"]));
        drop(release);
        assert_eq!(last.await.expect("released").embeds, [4.0]);
        assert_eq!(busy.await.expect("released").embeds, [1.0]);
    });
}

#[test]
fn a_dropped_generation_is_cancelled_at_its_next_step() {
    let (queue, release, given) = queue();
    block_on(async {
        let mut pending =
            queue.generate(GenerateRequest { num_inference_steps: 5, ..GenerateRequest::of("a star") }).expect("room");
        assert_eq!(
            pending.progress.recv().await,
            Some(GenerationProgress { image_index: 0, step: 1, total_steps: 5, pass: 1, preview: None })
        );
        assert_eq!(given.recv(), Ok(1));
        drop(pending);
        release.send(()).expect("the thread waits");
        while queue.metrics().cancelled.get() == 0 {
            yield_now().await;
        }
        // The receiver is dropped while the first step is reported, or just after.
        assert!(queue.metrics().steps.get() <= 2, "no step is begun after the next one");
    });
}
