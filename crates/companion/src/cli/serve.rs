//! `pixart serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pixart_companion::serve::{Doors, Serving, Token};
use pixart_companion::{Error, TextOpening};
use pixart_model::WeightFormat;

use super::{Kind, TEXT_DTYPES, precision};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// A diffusers folder or a packed one, with tokenizer/ and text_encoder/; with transformer/ and vae/ it draws, too.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// Where to listen; port 0 takes a free one. Addresses that other computers reach need --token-file.
    #[arg(long, default_value = "127.0.0.1:7860")]
    pub(crate) listen: SocketAddr,
    /// The folder of the built page.
    #[arg(long, default_value = "web/dist")]
    page: PathBuf,
    /// Serve the interface without the page.
    #[arg(long, conflicts_with = "page")]
    api_only: bool,
    /// How the text encoder's matrices are kept [default: as they are stored; f16 as f32].
    #[arg(long, value_parser = precision(TEXT_DTYPES))]
    text_dtype: Option<WeightFormat>,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: Kind,
    /// A file whose first line callers of /v1 and /metrics have to send, as `Authorization: Bearer <it>`.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// A page elsewhere that may ask, as `https://example.org`; repeat it for more. Pages of this computer always may.
    #[arg(long = "allow-origin")]
    origins: Vec<String>,
    /// Requests that may wait; the next one is answered 429.
    #[arg(long, default_value = "64")]
    pub(crate) queue: std::num::NonZeroUsize,
    /// Seconds after which a request is given up.
    #[arg(long, default_value_t = 900)]
    within: u64,
    /// Seconds that requests under way are given when the server is told to stop.
    #[arg(long, default_value_t = 60)]
    grace: u64,
    /// Write the log as JSON.
    #[arg(long)]
    pub(crate) log_json: bool,
}

impl ServeArgs {
    pub(crate) fn serving(&self) -> Result<Serving, Error> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        Ok(Serving {
            page: (!self.api_only).then(|| self.page.clone()),
            doors: Doors::new(self.listen, token, self.origins.clone())?,
            within: Duration::from_secs(self.within),
            grace: Duration::from_secs(self.grace),
        })
    }

    pub(crate) fn opening(&self) -> TextOpening {
        TextOpening {
            checkpoint: self.checkpoint.clone(),
            device: self.device,
            precision: self.text_dtype,
            layers: None,
        }
    }
}
