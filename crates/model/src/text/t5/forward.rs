//! One pass of token rows through the encoder, block by block.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use burn::tensor::{Device, Tensor};
use pixart_weights::Weights;

use super::{T5, T5Block};
use crate::loading::var_builder::UPLOAD_FENCE_BYTES;
use crate::{Error, Taps};

/// Bytes of uploads between two fences while the device computes another block: most of a block of T5-XXL is uploaded meanwhile.
const STREAM_FENCE_BYTES: usize = 64 << 20;

/// Token rows on their way through the blocks, one block a [`T5Forward::step`].
pub struct T5Forward<'t5> {
    pub(super) t5: &'t5 T5,
    pub(super) weights: Weights<'t5>,
    pub(super) hidden_state: Tensor<3>,
    pub(super) bias: Tensor<4>,
    /// Number of blocks that were applied.
    pub(super) layer: usize,
    /// The next block, if it was read while the device computed.
    pub(super) next: Option<Rc<T5Block>>,
    pub(super) keeps_blocks: bool,
}

impl T5Forward<'_> {
    /// Returns the number of blocks that were applied.
    #[must_use]
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Returns the number of all blocks.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.t5.config.layers
    }

    /// Returns the hidden state after the applied blocks, `[B, L, C]`.
    #[must_use]
    pub fn hidden_state(&self) -> Tensor<3> {
        self.hidden_state.clone()
    }

    /// Continues from the hidden state after `layer` blocks. Returns false, and changes nothing, where layer or shape do not fit.
    pub fn resume(&mut self, layer: usize, hidden_state: Tensor<3>) -> bool {
        let fits = layer <= self.layers() && hidden_state.dims() == self.hidden_state.dims();
        if fits {
            (self.layer, self.hidden_state, self.next) = (layer, hidden_state, None);
        }
        fits
    }

    /// Applies the next block. A GPU computes it while the block after it is read. A block that does not stay on the device is
    /// dropped.
    ///
    /// # Errors
    /// A tensor that cannot be read, has another shape or is not finite, by name; a device that fails.
    ///
    /// # Panics
    /// If all blocks were applied.
    pub async fn step(&mut self, taps: &mut Taps) -> Result<(), Error> {
        assert!(self.layer < self.layers(), "all {} blocks were applied", self.layers());
        let block = match self.next.take() {
            Some(block) => block,
            None => self.block(self.layer, UPLOAD_FENCE_BYTES).await?,
        };
        let options = self.t5.config.attention(&self.bias);
        self.hidden_state = block.forward(self.hidden_state.clone(), &options, self.layer, taps);
        if self.keeps_blocks && self.t5.resident_layers() == self.layer {
            self.t5.blocks.borrow_mut().push(block);
        }
        self.layer += 1;
        let is_cpu = self.t5.device == Device::flex();
        if self.layer < self.layers() && self.layer >= self.t5.resident_layers() && !is_cpu {
            // Polling once submits the block's work. A read that is dropped while it is pending corrupts the next one.
            let first = self.hidden_state.clone().flatten::<1>(0, 2).narrow(0, 0, 1);
            let mut computed = pin!(first.into_data_async());
            let early = poll_fn(|context| Poll::Ready(computed.as_mut().poll(context))).await;
            let next = self.block(self.layer, STREAM_FENCE_BYTES).await;
            let computed = match early {
                Poll::Ready(read) => read,
                Poll::Pending => computed.await,
            };
            computed.map_err(|error| Error::Read { what: "the hidden state".into(), why: error.to_string() })?;
            self.next = Some(next?);
        }
        Ok(())
    }

    /// Returns block `layer`: the one on the device, or one that is read now.
    async fn block(&self, layer: usize, fence_bytes: usize) -> Result<Rc<T5Block>, Error> {
        let resident = self.t5.blocks.borrow().get(layer).cloned();
        match resident {
            Some(block) => Ok(block),
            None => {
                let stays = self.keeps_blocks;
                Ok(Rc::new(self.t5.load_block(&self.weights, layer, fence_bytes, stays).await?))
            }
        }
    }

    /// Returns the embeddings `[B, L, C]`. Those of padding must be masked by the caller.
    ///
    /// # Panics
    /// If blocks are left.
    #[must_use]
    pub fn finish(self, taps: &mut Taps) -> Tensor<3> {
        assert_eq!(self.layer, self.layers(), "blocks are left");
        let x = self.t5.final_layer_norm.forward(self.hidden_state);
        taps.record(format_args!("t5.final"), &x);
        x
    }
}
