use futures_lite::future::{block_on, poll_once, yield_now};
use std::sync::mpsc as ready;

use super::*;

const WAITING_MAX: usize = 4;

/// Embeds a caption as its length, and draws steps without a picture. Each call first waits for `released`, and tells how many
/// requests it was given.
struct Fake {
    released: ready::Receiver<()>,
    told: ready::Sender<usize>,
}

impl Work for Fake {
    fn encode(&mut self, requests: &[EncodeRequest]) -> Vec<Result<EncodeResponse, Error>> {
        self.told.send(requests.len()).ok();
        self.released.recv().ok(); // A closed channel releases it too.
        let reply = |request: &EncodeRequest| {
            assert_ne!(request.captions, ["panic"], "the device is gone");
            let embeds: Vec<f32> = request.captions.iter().map(|caption| caption.len() as f32).collect();
            Ok(EncodeResponse { shape: [embeds.len() as u32, 1, 1], attention_mask: vec![1.0; embeds.len()], embeds })
        };
        requests.iter().map(reply).collect()
    }

    fn draw(
        &mut self,
        request: &GenerateRequest,
        stepped: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, Error> {
        self.told.send(1).ok();
        for step in 1..=request.num_inference_steps {
            if stepped(Progress { image: 0, step, total_steps: request.num_inference_steps }).is_break() {
                return Err(Error::Cancelled);
            }
            self.released.recv().ok();
        }
        Ok(Vec::new())
    }

    fn hits(&self) -> u64 {
        0
    }
}

/// A queue, what releases its work, and what the work was given.
fn queue() -> (Queue, ready::Sender<()>, ready::Receiver<usize>) {
    let ((release, released), (told, given)) = (ready::channel(), ready::channel());
    let (queue, opened) = Queue::start(WAITING_MAX, move || Ok((Fake { released, told }, "about")));
    let about = block_on(opened).expect("it is told").expect("nothing to fail");
    assert_eq!(about, "about");
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
fn work_that_cannot_be_opened_is_told() {
    let open = || Err::<(Fake, ()), _>(Error::NoGpu { why: "no driver".to_owned() });
    let (queue, opened) = Queue::start(WAITING_MAX, open);
    let error = block_on(opened).expect("it is told").expect_err("no GPU");
    assert!(error.to_string().contains("no driver"));
    let fault = block_on(queue.encode(request(&["a"]))).expect_err("nobody is there");
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
fn those_that_wait_side_by_side_are_encoded_together_and_one_too_many_is_refused() {
    let (queue, release, given) = queue();
    block_on(async {
        let mut first = Box::pin(queue.encode(request(&["a"])));
        assert!(poll_once(&mut first).await.is_none(), "nothing is released yet");
        assert_eq!(given.recv(), Ok(1), "it is taken up alone");
        let mut asked: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(queue.encode(request(&["bb"])))).collect();
        for future in &mut asked {
            assert!(poll_once(future).await.is_none());
        }
        assert_eq!(queue.waiting(), WAITING_MAX);
        let fault = queue.encode(request(&["a"])).await.expect_err("one too many");
        assert_eq!((fault.code, queue.tally().refused.get()), (FaultCode::Busy, 1));

        asked.pop(); // Whoever leaves is not worked for.
        release.send(()).expect("the thread waits");
        assert_eq!(first.await.expect("released").embeds, [1.0]);
        assert_eq!(given.recv(), Ok(WAITING_MAX - 1));
        drop(release);
        for future in asked {
            assert_eq!(future.await.expect("released").embeds, [2.0]);
        }
    });
}

#[test]
fn a_picture_that_nobody_waits_for_is_broken_off_at_its_next_step() {
    let (queue, release, given) = queue();
    block_on(async {
        let mut drawing =
            queue.draw(GenerateRequest { num_inference_steps: 5, ..GenerateRequest::of("a star") }).expect("room");
        assert_eq!(drawing.told.recv().await, Some(Progress { image: 0, step: 1, total_steps: 5 }));
        assert_eq!(given.recv(), Ok(1));
        drop(drawing);
        release.send(()).expect("the thread waits");
        while queue.tally().cancelled.get() == 0 {
            yield_now().await;
        }
        // Its asker leaves while the first step is told, or just after.
        assert!(queue.tally().steps.get() <= 2, "no step is begun after the next one");
    });
}
