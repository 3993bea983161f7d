//! The generation that the device works on, for clients that ask for its progress, or stop it, by other requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pixart_model::image::Rgb8;

use crate::generate::{GenerationProgress, StopGeneration};

/// Progress of the generation that the device works on.
#[derive(Clone, Debug)]
pub struct RunningGeneration {
    pub began: Instant,
    /// Number of images.
    pub images: u32,
    /// Progress of the last step; `None` before the first.
    pub progress: Option<GenerationProgress>,
    /// Preview of the image after the last step.
    pub preview: Option<Rgb8>,
    /// How it will stop after the present step.
    pub stop: Option<StopGeneration>,
}

/// Shared by the device thread and the server.
#[derive(Default)]
pub(super) struct Running(Mutex<Option<RunningGeneration>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, Option<RunningGeneration>> {
        // It is whole after every line that changes it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, images: u32) {
        let began = Instant::now();
        *self.lock() = Some(RunningGeneration { began, images, progress: None, preview: None, stop: None });
    }

    /// Records a step, and returns how the generation is to stop after it.
    pub(super) fn step(&self, progress: GenerationProgress, preview: Option<Rgb8>) -> Option<StopGeneration> {
        let mut running = self.lock();
        let running = running.as_mut()?;
        (running.progress, running.preview) = (Some(progress), preview);
        match running.stop {
            // The next image is another one's.
            Some(StopGeneration::Skip) => running.stop.take(),
            stop => stop,
        }
    }

    pub(super) fn stop(&self, stop: StopGeneration) {
        if let Some(running) = self.lock().as_mut() {
            running.stop = Some(stop);
        }
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    pub(super) fn get(&self) -> Option<RunningGeneration> {
        self.lock().clone()
    }
}
