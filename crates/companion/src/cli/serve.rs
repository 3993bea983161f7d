//! `pixart serve`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pixart_companion::device::DeviceSpec;
use pixart_companion::serve::queue::Queue;
use pixart_companion::serve::{self, AccessPolicy, ServeOptions, Server, Token};
use pixart_companion::{AppState, Error, PromptEncoderOptions};
use pixart_model::WeightFormat;

use super::{TEXT_WEIGHT_FORMATS, print_line, value_by_name};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// A diffusers folder or a packed one, with tokenizer/ and text_encoder/. With transformer/ and vae/ it also generates
    /// images.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Address to listen on; port 0 takes a free one. Addresses that other computers can reach require --token-file.
    #[arg(long, default_value = "127.0.0.1:7860")]
    listen: SocketAddr,
    /// The folder of the built page.
    #[arg(long, default_value = "web/dist")]
    page: PathBuf,
    /// Serve the API without the page.
    #[arg(long, conflicts_with = "page")]
    api_only: bool,
    /// Weight format of the text encoder's matrices [default: as stored; f16 as f32].
    #[arg(long, value_parser = value_by_name(TEXT_WEIGHT_FORMATS))]
    text_dtype: Option<WeightFormat>,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// A file whose first line is the token of /v1 and /metrics. Clients send it as `Authorization: Bearer <token>`.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Origin of another page that may send requests, as `https://example.org`; repeat it for more. Pages of this computer
    /// always may.
    #[arg(long = "allow-origin")]
    origins: Vec<String>,
    /// Largest number of queued requests; further ones are answered with status 429.
    #[arg(long, default_value = "64")]
    queue: NonZeroUsize,
    /// Seconds after which a request is answered with status 504.
    #[arg(long, alias = "within", default_value_t = 900)]
    request_timeout: u64,
    /// Seconds that requests in flight are given after ctrl-c or SIGTERM.
    #[arg(long, alias = "grace", default_value_t = 60)]
    shutdown_timeout: u64,
    /// Write the log as JSON.
    #[arg(long)]
    pub(crate) log_json: bool,
}

impl ServeArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (options, encoder_options) = (self.options()?, self.encoder_options());
        let (queue, opened) = Queue::start(self.queue.get(), move || {
            let state = AppState::open(&encoder_options)?;
            let info = state.info().clone();
            Ok((state, info))
        });
        let server = Server::new(queue);
        let router = server.router(&options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = serve::listen(self.listen).await?;
            print_line(&format!("http://{}/", listener.local_addr()?));
            // The server answers while the model loads; a failure to load stops it.
            let mut failed = None;
            let loaded = async {
                match opened.await.unwrap_or(Err(Error::ThreadStopped)) {
                    Ok(info) => {
                        tracing::info!(
                            model = info.id,
                            device = info.device,
                            generates_images = info.generates_images,
                            "ready"
                        );
                        server.set_ready(info);
                        std::future::pending().await
                    }
                    Err(error) => failed = Some(error),
                }
            };
            let stop = async {
                tokio::select! {
                    () = loaded => {}
                    () = stop_signal() => {}
                }
            };
            server.run(listener, router, stop, options.shutdown_timeout).await;
            failed.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
        })
    }

    fn options(&self) -> Result<ServeOptions, Error> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        Ok(ServeOptions {
            page: (!self.api_only).then(|| self.page.clone()),
            access_policy: AccessPolicy::new(self.listen, token, self.origins.clone())?,
            request_timeout: Duration::from_secs(self.request_timeout),
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout),
        })
    }

    fn encoder_options(&self) -> PromptEncoderOptions {
        PromptEncoderOptions {
            checkpoint: self.checkpoint.clone(),
            device: self.device,
            weight_format: self.text_dtype,
            layers: None,
        }
    }
}

/// Waits for ctrl-c or SIGTERM.
async fn stop_signal() {
    let ctrl_c = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot wait for ctrl-c; stopping");
        }
    };
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            () = ctrl_c => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    ctrl_c.await;
}
