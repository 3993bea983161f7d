//! The pipeline on native devices with the checkpoint that ships with the page: slicing, replaying and running the stages one by
//! one leave the image unchanged, and prewarming compiles every shader that an image launches.

use std::ops::ControlFlow;
use std::path::Path;

use futures_lite::future::block_on;
use pixart_companion::device::{self, DeviceSpec, LoadedDevice};
use pixart_companion::{
    ImageGenerator, LoadOptions, PromptEmbedsSource, PromptEncoder, PromptEncoderOptions, checkpoint, decode,
};
use pixart_model::{
    CfgBatching, DeviceLimits, Pipeline, PrewarmKernel, Sampler, SamplerProgress, Taps, count_launches, image,
    scheduler_names, values_read,
};
use pixart_protocol::{EncodeRequest, GenerateRequest, OutputType};
use pixart_weights::Folder;

use crate::gpu;

fn request(guidance_scale: f64) -> GenerateRequest {
    GenerateRequest {
        seed: 7,
        num_inference_steps: 2,
        guidance_scale,
        width: Some(64),
        height: Some(64),
        ..GenerateRequest::of("a red circle on a blue background")
    }
}

pub(crate) fn scenes() -> Folder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    checkpoint::read(&folder, &[]).expect("the embedded checkpoint")
}

fn pipeline(opened: &LoadedDevice) -> Pipeline {
    let folder = scenes();
    let pipeline = block_on(Pipeline::load(&folder, &opened.device, opened.limits, None)).expect("it loads");
    block_on(pipeline.load_text_encoder(&folder)).expect("it loads");
    pipeline
}

/// Generates an image in slices of `blocks`; returns its bytes and the number of slices.
fn generate(
    pipeline: &Pipeline,
    request: &GenerateRequest,
    cfg_batching: CfgBatching,
    blocks: usize,
) -> (Vec<u8>, usize) {
    let mut prepared = pipeline.prepare(request).expect("the request is valid");
    prepared.plan.cfg_batching = cfg_batching;
    let prompt_embeds = block_on(pipeline.encode(&prepared)).expect("the prompt is encoded");
    let mut sampler = pipeline.sampler(&prepared, prompt_embeds, 0).expect("the embeddings fit");
    let mut slices = 0;
    while sampler.advance(blocks, &mut Taps::off()) != SamplerProgress::Done {
        slices += 1;
    }
    let image = pipeline.decode(sampler.into_latents(), &prepared);
    (block_on(image::rgb8_read(image, prepared.size)).expect("the image is read").bytes, slices)
}

#[test]
fn a_text_encoder_that_does_not_fit_beside_the_image_is_streamed() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let request = GenerateRequest { width: None, height: None, ..request(4.5) };
    let limited = |memory_bytes: u64| LoadedDevice {
        limits: DeviceLimits { memory_bytes: Some(memory_bytes), ..DeviceLimits::UNLIMITED },
        ..opened.clone()
    };
    let unlimited = pipeline(&opened);
    let expected =
        block_on(unlimited.encode(&unlimited.prepare(&request).expect("it is valid"))).expect("it is encoded");
    let image_bytes = unlimited.prepare(&request).expect("it is valid").plan.bytes();
    let text_bytes = unlimited.text_encoder().expect("it is open").block_bytes();
    for (memory_bytes, text_memory, stays) in [
        (image_bytes + text_bytes, None, true),
        (image_bytes + text_bytes - 1, None, false),
        (u64::MAX, Some(text_bytes), true),
        (u64::MAX, Some(text_bytes - 1), false),
    ] {
        let pipeline = pipeline(&limited(memory_bytes));
        if let Some(bytes) = text_memory {
            pipeline.set_text_memory(bytes);
        }
        let prepared = pipeline.prepare(&request).expect("it is valid");
        assert_eq!(prepared.plan.bytes(), image_bytes, "the image's own plan is the same");
        let text_encoder = pipeline.text_encoder().expect("it is open");
        pipeline.make_room(&prepared);
        for _ in 0..2 {
            assert_eq!(text_encoder.is_resident(), stays, "{memory_bytes} bytes, text memory {text_memory:?}");
            let encoded = block_on(pipeline.encode(&prepared)).expect("the prompt is encoded");
            assert_eq!(encoded.embeds.to_data(), expected.embeds.to_data());
        }
    }
}

#[test]
fn slices_do_not_change_the_image() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let (pipeline, request) = (pipeline(&opened), request(4.5));
    let (whole, steps) = generate(&pipeline, &request, CfgBatching::Batched, usize::MAX);
    assert_eq!(steps, 2);
    for (cfg_batching, blocks) in [(CfgBatching::Batched, 1), (CfgBatching::Batched, 3), (CfgBatching::Sequential, 3)] {
        let (sliced, slices) = generate(&pipeline, &request, cfg_batching, blocks);
        assert!(slices > steps, "{slices} slices of {blocks} blocks");
        assert!(sliced == whole, "slices of {blocks} blocks, {cfg_batching:?}, change the image");
    }
}

#[test]
fn replaying_model_outputs_resumes_a_generation_exactly() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let pipeline = pipeline(&opened);
    let schedulers = scheduler_names().map(Some).chain([None]);
    for scheduler in schedulers {
        let request =
            GenerateRequest { num_inference_steps: 6, scheduler: scheduler.map(str::to_owned), ..request(4.5) };
        let prepared = pipeline.prepare(&request).expect("the request is valid");
        let begin = || {
            let prompt_embeds = block_on(pipeline.encode(&prepared)).expect("the prompt is encoded");
            pipeline.sampler(&prepared, prompt_embeds, 0).expect("the embeddings fit")
        };
        let finish = |mut sampler: Sampler<'_>| {
            while sampler.step(&mut Taps::off()) {}
            let image = pipeline.decode(sampler.into_latents(), &prepared);
            block_on(image::rgb8_read(image, prepared.size)).expect("the image is read").bytes
        };
        let mut model_outputs = Vec::new();
        let mut whole = begin();
        let calls = whole.scheduler().remaining_calls();
        for _ in 0..calls {
            assert!(whole.step(&mut Taps::off()));
            model_outputs.push(whole.step_output().expect("a step was made").model_output);
        }
        let whole = finish(whole);
        for replayed in [1, 3, calls - 1, calls] {
            let mut again = begin();
            assert!(model_outputs[..replayed].iter().all(|output| again.replay(output.clone())));
            assert_eq!(again.scheduler().remaining_calls(), calls - replayed);
            assert!(finish(again) == whole, "{scheduler:?} differs after {replayed} of {calls} replayed calls");
        }
        let mut over = begin();
        assert!(
            !model_outputs.iter().chain(&model_outputs).all(|output| over.replay(output.clone())),
            "{scheduler:?} steps beyond its last timestep"
        );
    }
}

#[test]
fn the_preview_is_close_to_the_least_squares_linear_map() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let pipeline = pipeline(&opened);
    let preview = pipeline.vae.config().preview.expect("the embedded VAE has preview factors");
    // Normal equations of 5 unknowns for each colour, over every latent pixel of some images.
    let (mut left, mut right, mut ours, mut pixels) = ([[0.0; 5]; 5], [[0.0; 3]; 5], 0.0, Vec::new());
    for (seed, prompt) in (1..).zip([
        "a red circle on a blue background",
        "a green cactus in the desert",
        "two yellow stars at night",
        "a white cat in a meadow",
        "a small black car in the snow",
        "a purple house by the sea",
    ]) {
        let request = GenerateRequest { seed, num_inference_steps: 10, ..GenerateRequest::of(prompt) };
        let prepared = pipeline.prepare(&request).expect("the request is valid");
        let prompt_embeds = block_on(pipeline.encode(&prepared)).expect("the prompt is encoded");
        let mut sampler = pipeline.sampler(&prepared, prompt_embeds, 0).expect("the embeddings fit");
        while sampler.step(&mut Taps::off()) {}
        let latent = sampler.into_latents();
        let [_, channels, rows, columns] = latent.dims();
        let numbers = block_on(values_read("the latent", latent.clone().flatten(0, 3))).expect("it is read");
        let rgb8 = block_on(image::rgb8_read(pipeline.decode(latent, &prepared), prepared.size)).expect("it is read");
        let shown = preview.rgb8(&numbers, [rows, columns]).expect("finite");
        let side = rgb8.height / rows;
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let mean = |channel: usize| {
                let patch =
                    (0..side * side).map(|at| (row * side + at / side) * rgb8.width + column * side + at % side);
                patch.map(|at| f64::from(rgb8.bytes[at * 3 + channel])).sum::<f64>() / (side * side) as f64 / 127.5
                    - 1.0
            };
            let want = [mean(0), mean(1), mean(2)];
            let at = row * columns + column;
            let mut seen = [1.0; 5];
            (0..channels).for_each(|channel| seen[channel] = f64::from(numbers[channel * rows * columns + at]));
            for (i, from) in seen.iter().enumerate() {
                seen.iter().enumerate().for_each(|(j, to)| left[i][j] += from * to);
                want.iter().enumerate().for_each(|(channel, want)| right[i][channel] += from * want);
            }
            for (channel, want) in want.iter().enumerate() {
                ours += (f64::from(shown.bytes[at * 3 + channel]) / 127.5 - 1.0 - want).powi(2);
            }
            pixels.push((seen, want));
        }
    }
    let best = solved(left, right);
    let error = |(seen, want): &([f64; 5], [f64; 3])| {
        let predicted = |channel: usize| (0..5).map(|i| seen[i] * best[i][channel]).sum::<f64>().clamp(-1.0, 1.0);
        want.iter().enumerate().map(|(channel, want)| (predicted(channel) - want).powi(2)).sum::<f64>()
    };
    let least = pixels.iter().map(error).sum::<f64>();
    let [ours, least] = [ours, least].map(|sum| (sum / (3 * pixels.len()) as f64).sqrt());
    println!("preview: {:.1} of 255 from the image, the best linear map {:.1}", ours * 127.5, least * 127.5);
    assert!(ours < 1.05 * least, "{ours:.4}, and {least:.4} by latent_rgb_factors {best:.4?}");
}

/// X of A·X = B, by elimination.
fn solved(mut a: [[f64; 5]; 5], mut b: [[f64; 3]; 5]) -> [[f64; 3]; 5] {
    for pivot in 0..5 {
        let largest =
            (pivot..5).max_by(|x, y| a[*x][pivot].abs().total_cmp(&a[*y][pivot].abs())).expect("there are rows");
        a.swap(pivot, largest);
        b.swap(pivot, largest);
        for row in (0..5).filter(|row| *row != pivot) {
            let share = a[row][pivot] / a[pivot][pivot];
            let (from, against) = (a[pivot], b[pivot]);
            a[row].iter_mut().zip(from).for_each(|(to, from)| *to -= share * from);
            b[row].iter_mut().zip(against).for_each(|(to, from)| *to -= share * from);
        }
    }
    std::array::from_fn(|row| b[row].map(|sum| sum / a[row][row]))
}

#[test]
fn an_image_launches_prewarmed_shaders_alone() {
    let Some(opened) = gpu::opened() else { return };
    // f16 is not used on fallback adapters, though Mesa's supports it.
    for shader_f16 in [false, true] {
        let opened = LoadedDevice { limits: DeviceLimits { shader_f16, ..opened.limits }, ..opened.clone() };
        let all = PrewarmKernel::all(&scenes(), opened.limits).expect("the embedded checkpoint's configurations");
        let prewarm = || all.iter().for_each(|one| drop(one.launch(&opened.device)));
        let ((), warm) = count_launches(prewarm);
        assert!(warm.pipelines > 0, "nothing was launched");
        let pipeline = pipeline(&opened);
        let ((), both) = count_launches(|| {
            prewarm();
            generate(&pipeline, &request(4.5), CfgBatching::Batched, usize::MAX);
        });
        assert!(both.dispatches > warm.dispatches * 2, "no image was generated");
        assert_eq!(both.pipelines, warm.pipelines, "shader_f16 = {shader_f16}");
    }
}

#[test]
fn separate_encode_generate_and_decode_give_the_image_of_one_run() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    let request = request(4.5);
    let options =
        |prompt_embeds| LoadOptions { checkpoint: checkpoint.clone(), prompt_embeds, ..LoadOptions::default() };
    let generate = |options, request: &GenerateRequest| {
        let generator = ImageGenerator::open(options).expect("the embedded checkpoint loads");
        generator.generate(request, |_| ControlFlow::Continue(())).expect("the request is valid").remove(0).file
    };
    let whole = generate(options(PromptEmbedsSource::TextEncoder), &request);

    let captions = vec![String::new(), request.prompt.clone()];
    let encoder = PromptEncoder::open(&PromptEncoderOptions {
        checkpoint: checkpoint.clone(),
        ..PromptEncoderOptions::default()
    })
    .expect("the text encoder loads");
    let embeds = encoder.encode(&EncodeRequest::of(captions)).expect("the captions are valid");
    drop(encoder);
    let latents = generate(
        options(PromptEmbedsSource::Stored(embeds)),
        &GenerateRequest { output_type: OutputType::Latent, ..request },
    );
    let path = Path::new("latents.safetensors");
    let staged = decode::decode(&checkpoint, DeviceSpec::Cpu, path, latents).expect("the decoder loads");
    let pixels = |file: &[u8]| image::decode_image(file).expect("a PNG");
    assert_eq!(pixels(&staged), pixels(&whole));

    let other = pixart_companion::embeds::write_tensor("latents", &[1, 3, 8, 8], &[0.0; 192]);
    let fault = decode::decode(&checkpoint, DeviceSpec::Cpu, path, other).expect_err("it has three channels");
    assert!(fault.to_string().contains("has shape [1, 3, 8, 8], not [1, 4, rows, columns]"), "{fault}");
}

#[test]
fn a_variation_of_full_strength_is_the_image_of_its_seed_and_one_of_none_changes_nothing() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let options = LoadOptions { ..LoadOptions::default() };
    let generator = ImageGenerator::load(opened, scenes(), options).expect("it loads");
    let files = |request: &GenerateRequest| {
        let images = generator.generate(request, |_| ControlFlow::Continue(())).expect("it is generated");
        images.into_iter().map(|image| image.file).collect::<Vec<_>>()
    };
    let pixels = |files: &[Vec<u8>]| {
        let decoded = files.iter().map(|file| image::decode_image(file).expect("a PNG").bytes);
        decoded.collect::<Vec<_>>()
    };
    let plain = request(4.5);
    let varied = |seed, variation_strength| GenerateRequest {
        variation_seed: Some(seed),
        variation_strength: Some(variation_strength),
        ..plain.clone()
    };
    let own = files(&plain);
    assert_eq!(files(&varied(30, 0.0)), own, "the whole file");
    let full = GenerateRequest { num_images_per_prompt: 2, ..varied(30, 1.0) };
    let seeds = GenerateRequest { num_images_per_prompt: 2, seeds: Some(vec![30, 31]), ..plain.clone() };
    assert_eq!(pixels(&files(&full)), pixels(&files(&seeds)));
    let half = files(&varied(30, 0.5));
    assert_ne!(pixels(&half), pixels(&own));
    let ancestral = |request: GenerateRequest| GenerateRequest { scheduler: Some("euler-a".into()), ..request };
    let [of_own, of_none] = [ancestral(plain.clone()), ancestral(varied(30, 0.0))].map(|request| files(&request));
    assert_eq!(of_own, of_none);
}

#[test]
fn a_second_pass_is_image_to_image_from_the_image_of_the_first() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let options = LoadOptions { vae_encoder: true, ..LoadOptions::default() };
    let generator = ImageGenerator::load(opened, scenes(), options).expect("it loads");
    let plain = request(4.5);
    let twice = GenerateRequest {
        hires_scale: Some(1.5),
        hires_strength: Some(0.5),
        hires_steps: Some(4),
        num_images_per_prompt: 2,
        ..plain.clone()
    };
    let mut progress = Vec::new();
    let both = generator.generate(&twice, |step| {
        progress.push((step.image_index, step.step, step.total_steps, step.pass));
        ControlFlow::Continue(())
    });
    let both = both.expect("it is generated");
    let steps = |image| [(image, 1, 4, 1), (image, 2, 4, 1), (image, 3, 4, 2), (image, 4, 4, 2)];
    assert_eq!(progress, [steps(0), steps(1)].concat());
    let first = GenerateRequest { num_images_per_prompt: 2, ..plain.clone() };
    let first = generator.generate(&first, |_| ControlFlow::Continue(())).expect("it is generated");
    for (index, (image_of_both, first)) in both.iter().zip(first).enumerate() {
        let over = GenerateRequest {
            image: Some(first.file),
            strength: Some(0.5),
            num_inference_steps: 4,
            width: Some(96),
            height: Some(96),
            num_images_per_prompt: 2,
            image_index: Some(index as u32),
            ..plain.clone()
        };
        let expected = generator.generate(&over, |_| ControlFlow::Continue(())).expect("it is generated").remove(0);
        let pixels = |file: &[u8]| image::decode_image(file).expect("a PNG");
        assert_eq!(pixels(&image_of_both.file), pixels(&expected.file), "image {index}");
        let report = &image_of_both.report;
        assert_eq!((report.width, report.height, report.num_inference_steps), (96, 96, 4));
        assert!(report.memory_plan.contains("second pass of 96x96: "), "{}", report.memory_plan);
    }
    let bytes = |request: &GenerateRequest| generator.prepare(request).expect("it is valid").plan.bytes();
    assert_eq!(bytes(&twice), bytes(&GenerateRequest { width: Some(96), height: Some(96), ..plain.clone() }));
    let alone = GenerateRequest { image_index: Some(1), ..twice };
    let alone = generator.generate(&alone, |_| ControlFlow::Continue(())).expect("it is generated");
    assert_eq!(alone[0].file, both[1].file);
}
