//! `pixart serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use pixart_companion::catalogue::CheckpointSource;
use pixart_companion::device::DeviceSpec;
use pixart_companion::serve::queue::Queue;
use pixart_companion::serve::{self, AccessPolicy, ServeOptions, Server, Token, model_id};
use pixart_companion::{AppState, Error, LoraPath, PromptEncoderOptions};
use pixart_model::WeightFormat;
use pixart_protocol::{Fault, FaultCode};

use super::components::{self, ComponentArgs};
use super::loras::LoraArgs;
use super::{TEXT_WEIGHT_FORMATS, print_line, value_by_name};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// A diffusers folder or a packed one, with tokenizer/ and text_encoder/, or owner/name[@revision] of the hub, or a name
    /// of `pixart models`. With transformer/ and vae/ it also generates images.
    #[arg(long)]
    checkpoint: PathBuf,
    #[command(flatten)]
    components: ComponentArgs,
    #[command(flatten)]
    loras: LoraArgs,
    /// Address to listen on, `localhost:PORT` or PORT alone among them; port 0 takes a free one. Addresses that other computers
    /// can reach require --token-file.
    #[arg(long, default_value = "127.0.0.1:7860", value_parser = listen_address)]
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
    /// Memory for the text encoder's blocks, as 1GiB; a larger encoder is streamed from the disk block by block [default: all blocks].
    #[arg(long)]
    text_memory: Option<ByteSize>,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// A file whose first line is the token of /v1 and /metrics. Clients send it as `Authorization: Bearer <token>`.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Origin of another page that may send requests, as `https://example.org`; repeat it for more. Pages of this computer
    /// always may. With --token-file also `null` (files, sandboxed frames) and `*`.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Another name of this computer that requests may be sent to, as `host.docker.internal`; repeat it for more. With
    /// --token-file every name is allowed.
    #[arg(long = "allow-host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Another name that the model answers to, as `gpt-image-1` or `gpt-image-1=MODEL`, for clients that cannot be told the
    /// model's own; repeat it for more.
    #[arg(long = "model-alias", value_name = "NAME[=MODEL]")]
    model_aliases: Vec<String>,
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
    pub(super) fn run(mut self) -> anyhow::Result<ExitCode> {
        let loras = self.loras.fetch()?;
        let source = components::fetch(&self.checkpoint, &self.components.paths(), &[], None)?;
        self.checkpoint.clone_from(&source.checkpoint);
        let (options, encoder_options) = (self.options()?, self.encoder_options(source, loras));
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
            let address = listener.local_addr()?;
            if let Err(error) = print_line(&format!("http://{address}/")) {
                tracing::warn!(%error, %address, "the address cannot be printed");
            }
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
            access_policy: AccessPolicy::new(self.listen, token, &self.origins)?.allow_hosts(&self.hosts)?,
            model_aliases: self.model_aliases()?,
            request_timeout: Duration::from_secs(self.request_timeout),
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout),
        })
    }

    /// Names of `--model-alias`, each of which must stand for the model that is served.
    fn model_aliases(&self) -> Result<Vec<String>, Fault> {
        let id = model_id(&self.checkpoint);
        let parse = |text: &String| {
            let (name, model) = text.split_once('=').unwrap_or((text, &id));
            if !name.is_empty() && model == id {
                return Ok(name.to_owned());
            }
            let name = if name.is_empty() { "NAME" } else { name };
            let what = format!("--model-alias is `{text}`, and the model is `{id}`");
            Err(Fault::new(FaultCode::BadRequest, what, format!("write it as `{name}={id}`")))
        };
        self.model_aliases.iter().map(parse).collect()
    }

    fn encoder_options(&self, source: CheckpointSource, loras: Vec<LoraPath>) -> PromptEncoderOptions {
        PromptEncoderOptions {
            checkpoint: source.checkpoint,
            components: source.components,
            variant: source.variant,
            loras,
            device: self.device,
            weight_format: self.text_dtype,
            text_memory: self.text_memory.map(|size| size.0),
            ..PromptEncoderOptions::default()
        }
    }
}

/// Parses a value of --listen.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
    match port.parse() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => {
            text.parse().map_err(|_| "write an IP address and a port, as 127.0.0.1:7860 or [::1]:7860".to_owned())
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
