//! The binary `pixart`: reads the command line, calls the library, writes files and lines. Results go to stdout, notes
//! to stderr; a failure is one line that says what failed and what to do, and exit status 1.

mod allocator;
mod cli;

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{CommandFactory as _, Parser};
use pixart_companion::compare;
use pixart_companion::device::Kind;
use pixart_companion::pack::{self, Packing};
use pixart_companion::queue::Queue;
use pixart_companion::serve::{self, Server};
use pixart_companion::{
    Encoder, Error, Generator, Opening, Progress, Studio, TextFrom, TextOpening, bench, decode, device, doctor, embeds,
    golden, prompts, self_test, synth,
};
use pixart_model::recording::Recording;
use pixart_model::{KernelVariant, image};
use pixart_protocol::{EncodeRequest, Fault, GenerateRequest};
use tracing_subscriber::EnvFilter;

use cli::{
    BenchArgs, Cli, Command, CompareArgs, DecodeArgs, EncodeArgs, GenerateArgs, GoldenArgs, PackArgs, ServeArgs,
    SheetArgs, SynthArgs,
};

#[global_allocator]
static ALLOCATOR: allocator::LargePages = allocator::LargePages;

fn main() -> ExitCode {
    allocator::keep_freed();
    let command = Cli::parse().command;
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,pixart=info,tower_http=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match &command {
        Command::Serve(args) if args.log_json => log.json().init(),
        _ => log.init(),
    }
    let outcome = match command {
        Command::Generate(args) => generate(&args),
        Command::Sheet(args) => sheet(args),
        Command::Encode(args) => encode(args),
        Command::Decode(args) => develop(&args),
        Command::Pack(args) => pack_or_check(args),
        Command::Synth(args) => invent(&args),
        Command::Serve(args) => serve(&args),
        Command::Doctor { device: None, json } => examine(json),
        Command::Doctor { device: Some(kind), json } => prove(kind, json),
        Command::Compare(args) => compare_two(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pixart", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { to } => manual(&to),
        Command::Golden(args) => check_goldens(&args),
        Command::Bench(args) => time(&args),
    };
    outcome.unwrap_or_else(|error| {
        match error.downcast::<Error>().map(Fault::from) {
            Ok(fault) => eprintln!("error: {} — {}", fault.what, fault.remedy),
            Err(error) => eprintln!("error: {error:#}"),
        }
        ExitCode::FAILURE
    })
}

fn generate(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    let stored = args.embeds.as_deref().map(|path| embeds::read(path, &read(path)?)).transpose()?;
    let captions = stored.as_ref().map(|stored| stored.captions.clone()).unwrap_or_default();
    let listed = args.prompts.as_deref().map(|path| prompts::parse(path, &read(path)?)).transpose()?;
    let generator = Generator::open(Opening {
        checkpoint: args.checkpoint.clone(),
        device: args.device,
        precision: args.dtype,
        text: stored.map_or(TextFrom::Checkpoint, |stored| TextFrom::Stored(stored.embeds)),
        transformer: args.transformer.clone(),
        adapters: args.adapters().map_err(Error::from)?,
        over_image: args.image.is_some(),
    })?;

    let mut request = args.request(generator.preset()).map_err(Error::from)?;
    request.image = args.image.as_deref().map(read).transpose()?;
    request.mask_image = args.mask_image.as_deref().map(read).transpose()?;
    request.latents = args.latents.as_deref().map(read).transpose()?;
    if args.prompt.is_none() {
        request.prompt = captions.last().cloned().unwrap_or("(stored embeddings)".to_owned());
    }
    let Some(listed) = listed else {
        let out = args.out.as_ref().context("clap asks for --out beside --prompt and --embeds")?;
        return draw(&generator, &request, out, args.record.as_deref());
    };
    let out_dir = args.out_dir.as_ref().context("clap asks for --out-dir beside --prompts")?;
    fs::create_dir_all(out_dir).map_err(|source| Error::Write { path: out_dir.clone(), source })?;
    let requests: Vec<GenerateRequest> = (0..).zip(listed).map(|(id, one)| one.request(id, &request)).collect();
    // A bad prompt far down the list is told before the first picture is drawn.
    for request in &requests {
        generator.validate(request)?;
    }
    for request in &requests {
        let extension = args.output_type.extension();
        draw(&generator, request, &out_dir.join(format!("{:03}.{extension}", request.id)), None)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(
    generator: &Generator,
    request: &GenerateRequest,
    out: &Path,
    record: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let pictures = generator.draw(request, told)?;
    let alone = pictures.len() == 1;
    for (index, picture) in pictures.into_iter().enumerate() {
        write(&if alone { out.to_owned() } else { numbered(out, index) }, &picture.file)?;
        if let (Some(path), Some(recording)) = (record, &picture.recording) {
            write(path, recording)?;
        }
        print_line(&serde_json::to_string(&picture.report)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn told(Progress { image, step, total_steps }: Progress) -> ControlFlow<()> {
    tracing::debug!(image, step, total_steps);
    ControlFlow::Continue(())
}

/// `a/b.png` → `a/b-0.png`.
fn numbered(out: &Path, index: usize) -> PathBuf {
    let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(out.file_stem()), part(out.extension()));
    out.with_file_name(format!("{stem}-{index}.{extension}"))
}

fn sheet(args: SheetArgs) -> anyhow::Result<ExitCode> {
    let opening = Opening { checkpoint: args.checkpoint, device: args.device, ..Opening::default() };
    let generator = Generator::open(opening)?;
    let names: Vec<String> = match args.schedulers.is_empty() {
        true => pixart_model::scheduler_names().map(str::to_owned).collect(),
        false => args.schedulers,
    };
    let request = |name: &String| GenerateRequest {
        seed: args.seed,
        num_inference_steps: args.steps,
        scheduler: Some(name.clone()),
        ..GenerateRequest::of(&args.prompt)
    };
    let requests: Vec<GenerateRequest> = names.iter().map(request).collect();
    for request in &requests {
        generator.validate(request)?;
    }
    let mut pictures = Vec::new();
    for request in &requests {
        for picture in generator.draw(request, told)? {
            pictures.push(image::from_png(&picture.file).map_err(Error::from)?);
            print_line(&serde_json::to_string(&serde_json::json!({
                "scheduler": request.scheduler, "picture": picture.report,
            }))?);
        }
    }
    write(&args.out, &image::png(&image::sheet(&pictures, args.columns), &[]).map_err(Error::from)?)?;
    Ok(ExitCode::SUCCESS)
}

fn encode(args: EncodeArgs) -> anyhow::Result<ExitCode> {
    let request = EncodeRequest { captions: args.prompts, max_sequence_length: args.max_sequence_length };
    request.validate().map_err(Error::Request)?;
    let began = Instant::now();
    let encoder = Encoder::open(&TextOpening {
        checkpoint: args.checkpoint,
        device: args.device,
        precision: args.text_dtype,
        layers: args.layers,
    })?;
    let load_s = began.elapsed().as_secs_f64();
    let mut encode_s = Vec::new();
    for _ in 0..args.runs {
        let began = Instant::now();
        let embedded = encoder.encode(&request)?;
        encode_s.push(began.elapsed().as_secs_f64());
        if encode_s.len() == 1 {
            write(&args.out, &embeds::write(&embedded, &request.captions))?;
        }
    }
    print_line(
        &serde_json::json!({
            "device": encoder.device_name(), "load_s": load_s, "encode_s": encode_s, "peak_bytes": bench::peak_bytes(),
        })
        .to_string(),
    );
    Ok(ExitCode::SUCCESS)
}

fn develop(args: &DecodeArgs) -> anyhow::Result<ExitCode> {
    let file = decode::decode(&args.checkpoint, args.device, &args.latents, read(&args.latents)?)?;
    write(&args.out, &file)?;
    Ok(ExitCode::SUCCESS)
}

fn pack_or_check(args: PackArgs) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &args.check {
        let faults = pack::check(dir)?;
        faults.iter().for_each(|fault| print_line(fault));
        return Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let report = pack::pack(&Packing {
        from: args.from.context("clap asks for --from without --check")?,
        config: args.config,
        to: args.to.context("clap asks for --to beside --from")?,
        precision: args.dtype,
        shard_bytes: args.shard_mib << 20,
        license: args.license,
        source: args.source,
    })?;
    print_line(&serde_json::to_string(&report)?);
    Ok(ExitCode::SUCCESS)
}

fn invent(args: &SynthArgs) -> anyhow::Result<ExitCode> {
    let bytes = synth::synth(args.arch.into(), args.dtype, args.seed, &args.to)?;
    print_line(&serde_json::json!({ "bytes": bytes }).to_string());
    Ok(ExitCode::SUCCESS)
}

fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let (serving, opening) = (args.serving()?, args.opening());
    let (queue, opened) = Queue::start(args.queue.get(), move || {
        let studio = Studio::open(&opening)?;
        let about = studio.about().clone();
        Ok((studio, about))
    });
    let server = Server::new(queue);
    let router = server.router(&serving)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = serve::listen(args.listen).await?;
        print_line(&format!("http://{}/", listener.local_addr()?));
        // It answers while it loads; what then fails ends it.
        let mut failed = None;
        let loaded = async {
            match opened.await.unwrap_or(Err(Error::ThreadStopped)) {
                Ok(about) => {
                    tracing::info!(
                        model = about.id,
                        device = about.device,
                        generates_images = about.generates_images,
                        "ready"
                    );
                    server.is_loaded(about);
                    std::future::pending().await
                }
                Err(error) => failed = Some(error),
            }
        };
        let stop = async {
            tokio::select! {
                () = loaded => {}
                () = told_to_stop() => {}
            }
        };
        server.run(listener, router, stop, serving.grace).await;
        failed.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
    })
}

/// Ready at ctrl-c, and at SIGTERM where there is one.
async fn told_to_stop() {
    let ctrl_c = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "ctrl-c cannot be waited for; stopping");
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

fn examine(json: bool) -> anyhow::Result<ExitCode> {
    let report = doctor::examine();
    let text = if json { serde_json::to_string(&report)? } else { doctor::text(&report) };
    print_line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn prove(kind: Kind, json: bool) -> anyhow::Result<ExitCode> {
    let rows = self_test::run(kind)?;
    if !json {
        print_line(&golden::header());
    }
    for row in &rows {
        print_line(&if json { serde_json::to_string(row)? } else { golden::line(row) });
    }
    tracing::info!("{}", golden::summary(&rows));
    Ok(if golden::passed(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn manual(to: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(to).map_err(|source| Error::Write { path: to.to_owned(), source })?;
    clap_mangen::generate_to(Cli::command(), to).map_err(|source| Error::Write { path: to.to_owned(), source })?;
    Ok(ExitCode::SUCCESS)
}

fn compare_two(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let read_recording =
        |path: &PathBuf| -> Result<Recording, Error> { Ok(Recording::read(&path.display().to_string(), read(path)?)?) };
    let drawn = |device: Kind, request: &GenerateRequest| {
        let checkpoint = args.checkpoint.clone().context("name the --checkpoint to draw with")?;
        Ok::<_, anyhow::Error>(compare::record(checkpoint, device, request)?)
    };
    let (first, second) = match &args.recordings[..] {
        [] => {
            let with = args.with.context("clap asks for --with beside --prompt")?;
            let request = args.request();
            (drawn(args.device, &request)?, drawn(with, &request)?)
        }
        [one] => {
            let first = read_recording(one)?;
            let second = drawn(args.device, &first.request)?;
            (first, second)
        }
        [one, other] => (read_recording(one)?, read_recording(other)?),
        _ => anyhow::bail!("two recordings are compared, not {}", args.recordings.len()),
    };
    let report = compare::compare(&first, &second)?;
    print_line(&report.table());
    if let Some(path) = &args.difference {
        write(path, &compare::difference(&first, &second)?)?;
    }
    if let Some(path) = &args.json {
        write(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    let beyond: Vec<&str> = report.beyond(args.bounds()).map(|row| row.what.as_str()).collect();
    if !beyond.is_empty() {
        tracing::error!("too far apart: {}", beyond.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn check_goldens(args: &GoldenArgs) -> anyhow::Result<ExitCode> {
    let variants = golden::variants(&args.dir)?;
    let opened = device::open(args.device)?;
    tracing::info!(device = opened.name, "comparing");
    let tolerance = golden::tolerance(args.device);
    if !args.json {
        print_line(&golden::header());
    }
    let mut rows = Vec::new();
    for (name, path) in variants {
        for row in golden::check(&name, &path, &opened, tolerance)? {
            print_line(&if args.json { serde_json::to_string(&row)? } else { golden::line(&row) });
            rows.push(row);
        }
    }
    tracing::info!("{} on {}", golden::summary(&rows), opened.name);
    Ok(if golden::passed(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn time(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let variant = args.burn_reference.then_some(KernelVariant::BurnReference);
    let row = bench::bench(&args.models, &args.workload, args.device, variant, args.runs)?;
    print_line(&serde_json::to_string(&row)?);
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[expect(clippy::print_stdout, reason = "what a command was asked for goes to stdout, through here alone")]
fn print_line(line: &str) {
    println!("{line}");
}
