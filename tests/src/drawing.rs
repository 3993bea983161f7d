//! The checkpoint that ships with the page, drawn with natively: what a caller may do between two calls of the pipeline
//! changes no picture, and what was warmed up is all that a picture launches.

use std::ops::ControlFlow;
use std::path::Path;

use futures_lite::future::block_on;
use pixart_companion::device::{self, DeviceSpec, LoadedDevice};
use pixart_companion::{
    ImageGenerator, LoadOptions, PromptEmbedsSource, PromptEncoder, PromptEncoderOptions, checkpoint, decode,
};
use pixart_model::{
    CfgBatching, DeviceLimits, MemoryPlan, Pipeline, PrewarmKernel, Sampler, SamplerProgress, Taps, count_launches,
    golden, image, scheduler_names, text_encoder_bytes,
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
    block_on(Pipeline::load_within(&scenes(), &opened.device, opened.limits)).expect("the embedded checkpoint loads")
}

/// The picture's bytes, drawn in slices of `blocks`, and how many slices that took.
fn drawn(pipeline: &Pipeline, request: &GenerateRequest, cfg_batching: CfgBatching, blocks: usize) -> (Vec<u8>, usize) {
    let resolved = pipeline.resolve(request).expect("the request is good");
    let caption = pipeline.encode(request, &resolved).expect("the prompt is read");
    let plan = MemoryPlan { cfg_batching, ..pipeline.plan(request, &resolved).expect("it fits") };
    let mut sampler = pipeline.sampler(request, &resolved, None, caption, &plan).expect("the caption fits");
    let mut slices = 0;
    while sampler.advance(blocks, &mut Taps::off()) != SamplerProgress::Done {
        slices += 1;
    }
    let picture = pipeline.decode(sampler.into_latents(), &plan);
    (block_on(image::rgb8_read(picture, (&resolved).into())).expect("the picture is read").bytes, slices)
}

#[test]
fn a_text_encoder_that_does_not_fit_beside_the_picture_makes_room_for_it() {
    let (opened, folder, request) =
        (device::open(DeviceSpec::Cpu).expect("the processor is there"), scenes(), request(4.5));
    let within = |memory_bytes: u64| {
        let limits = DeviceLimits { memory_bytes: Some(memory_bytes), ..DeviceLimits::UNLIMITED };
        block_on(Pipeline::load_within(&folder, &opened.device, limits)).expect("the embedded checkpoint loads")
    };
    let roomy = within(u64::MAX);
    let resolved = roomy.resolve(&request).expect("the request is good");
    let plan = roomy.plan(&request, &resolved).expect("it fits");
    let together = plan.bytes() + text_encoder_bytes(&folder).expect("its configuration is there");
    for (memory_bytes, stays) in [(together, true), (together - 1, false)] {
        let pipeline = within(memory_bytes);
        let first = pipeline.encode(&request, &resolved).expect("the prompt is read");
        assert_eq!(pipeline.can_read(), stays, "{memory_bytes} bytes");
        if !stays {
            assert!(pipeline.encode(&request, &resolved).is_err(), "nobody is there to read");
            block_on(pipeline.load_text(&folder)).expect("it is loaded again");
        }
        let again = pipeline.encode(&request, &resolved).expect("the prompt is read again");
        assert_eq!(first.embeds.to_data(), again.embeds.to_data());
    }
}

#[test]
fn a_picture_drawn_in_slices_is_the_picture_drawn_at_once() {
    let opened = device::open(DeviceSpec::Cpu).expect("the processor is there");
    let (pipeline, request) = (pipeline(&opened), request(4.5));
    let (whole, steps) = drawn(&pipeline, &request, CfgBatching::Batched, usize::MAX);
    assert_eq!(steps, 2);
    for (cfg_batching, blocks) in [(CfgBatching::Batched, 1), (CfgBatching::Batched, 3), (CfgBatching::Sequential, 3)] {
        let (sliced, slices) = drawn(&pipeline, &request, cfg_batching, blocks);
        assert!(slices > steps, "{slices} slices of {blocks} blocks");
        assert!(sliced == whole, "slices of {blocks} blocks, {cfg_batching:?}, give another picture");
    }
}

#[test]
fn a_picture_that_was_broken_off_goes_on_as_if_nothing_had_been() {
    let opened = device::open(DeviceSpec::Cpu).expect("the processor is there");
    let pipeline = pipeline(&opened);
    let named = scheduler_names().map(Some).chain([None]);
    for scheduler in named {
        let request =
            GenerateRequest { num_inference_steps: 6, scheduler: scheduler.map(str::to_owned), ..request(4.5) };
        let resolved = pipeline.resolve(&request).expect("the request is good");
        let plan = pipeline.plan(&request, &resolved).expect("it fits");
        let begun = || {
            let caption = pipeline.encode(&request, &resolved).expect("the prompt is read");
            pipeline.sampler(&request, &resolved, None, caption, &plan).expect("the caption fits")
        };
        let finished = |mut sampler: Sampler<'_>| {
            while sampler.step(&mut Taps::off()) {}
            let picture = pipeline.decode(sampler.into_latents(), &plan);
            block_on(image::rgb8_read(picture, (&resolved).into())).expect("the picture is read").bytes
        };
        let mut said = Vec::new();
        let mut whole = begun();
        let calls = whole.scheduler().remaining_calls();
        for _ in 0..calls {
            assert!(whole.step(&mut Taps::off()));
            said.push(whole.step_output().expect("a step was made").model_output);
        }
        let whole = finished(whole);
        for broken in [1, 3, calls - 1, calls] {
            let mut again = begun();
            assert!(said[..broken].iter().all(|said| again.replay(said.clone())));
            assert_eq!(again.scheduler().remaining_calls(), calls - broken);
            assert!(finished(again) == whole, "{scheduler:?} goes on differently after {broken} of {calls} calls");
        }
        let mut over = begun();
        assert!(
            !said.iter().chain(&said).all(|said| over.replay(said.clone())),
            "{scheduler:?} makes steps beyond its last"
        );
    }
}

#[test]
fn the_preview_is_nearly_the_best_that_a_linear_map_can_be() {
    let opened = device::open(DeviceSpec::Cpu).expect("the processor is there");
    let pipeline = pipeline(&opened);
    let preview = pipeline.painter.vae.config().preview.expect("the embedded autoencoder has colours");
    // Normal equations of 5 unknowns for each colour, over every latent pixel of some pictures.
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
        let resolved = pipeline.resolve(&request).expect("the request is good");
        let caption = pipeline.encode(&request, &resolved).expect("the prompt is read");
        let plan = pipeline.plan(&request, &resolved).expect("it fits");
        let mut sampler = pipeline.sampler(&request, &resolved, None, caption, &plan).expect("the caption fits");
        while sampler.step(&mut Taps::off()) {}
        let latent = sampler.into_latents();
        let [_, channels, rows, columns] = latent.dims();
        let numbers = block_on(golden::values_read("the latent", latent.clone().flatten(0, 3))).expect("it is read");
        let drawn = block_on(image::rgb8_read(pipeline.decode(latent, &plan), (&resolved).into())).expect("it is read");
        let shown = preview.rgb8(&numbers, [rows, columns]).expect("finite");
        let side = drawn.height / rows;
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let mean = |channel: usize| {
                let patch =
                    (0..side * side).map(|at| (row * side + at / side) * drawn.width + column * side + at % side);
                patch.map(|at| f64::from(drawn.bytes[at * 3 + channel])).sum::<f64>() / (side * side) as f64 / 127.5
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
        let said = |channel: usize| (0..5).map(|i| seen[i] * best[i][channel]).sum::<f64>().clamp(-1.0, 1.0);
        want.iter().enumerate().map(|(channel, want)| (said(channel) - want).powi(2)).sum::<f64>()
    };
    let least = pixels.iter().map(error).sum::<f64>();
    let [ours, least] = [ours, least].map(|sum| (sum / (3 * pixels.len()) as f64).sqrt());
    println!("preview: {:.1} of 255 from the picture, the best linear map {:.1}", ours * 127.5, least * 127.5);
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
fn a_picture_needs_no_shader_that_was_not_warmed_up() {
    let Some(opened) = gpu::opened() else { return };
    // Software adapters are not given half precision, but Mesa's has it.
    for shader_f16 in [false, true] {
        let opened = LoadedDevice { limits: DeviceLimits { shader_f16, ..opened.limits }, ..opened.clone() };
        let all = PrewarmKernel::all(&scenes(), opened.limits).expect("the embedded checkpoint's configurations");
        let warm_up = || all.iter().for_each(|one| drop(one.launch(&opened.device)));
        let ((), warm) = count_launches(warm_up);
        assert!(warm.pipelines > 0, "nothing was launched");
        let pipeline = pipeline(&opened);
        let ((), both) = count_launches(|| {
            warm_up();
            drawn(&pipeline, &request(4.5), CfgBatching::Batched, usize::MAX);
        });
        assert!(both.dispatches > warm.dispatches * 2, "nothing was drawn");
        assert_eq!(both.pipelines, warm.pipelines, "half precision {shader_f16}");
    }
}

#[test]
fn the_stages_one_by_one_draw_the_picture_of_the_whole() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    let asked = request(4.5);
    let options =
        |prompt_embeds| LoadOptions { checkpoint: checkpoint.clone(), prompt_embeds, ..LoadOptions::default() };
    let draw = |options, request: &GenerateRequest| {
        let generator = ImageGenerator::open(options).expect("the embedded checkpoint loads");
        generator.generate(request, |_| ControlFlow::Continue(())).expect("the request is good").remove(0).file
    };
    let whole = draw(options(PromptEmbedsSource::TextEncoder), &asked);

    let captions = vec![String::new(), asked.prompt.clone()];
    let encoder = PromptEncoder::open(&PromptEncoderOptions {
        checkpoint: checkpoint.clone(),
        ..PromptEncoderOptions::default()
    })
    .expect("the text encoder loads");
    let embeds = encoder.encode(&EncodeRequest::of(captions)).expect("the captions are good");
    drop(encoder);
    let latents = draw(
        options(PromptEmbedsSource::Stored(embeds)),
        &GenerateRequest { output_type: OutputType::Latent, ..asked },
    );
    let path = Path::new("latents.safetensors");
    let staged = decode::decode(&checkpoint, DeviceSpec::Cpu, path, latents).expect("the decoder loads");
    let pixels = |file: &[u8]| image::decode_png(file).expect("it is a PNG");
    assert_eq!(pixels(&staged), pixels(&whole));

    let other = pixart_companion::embeds::write_tensor("latents", &[1, 3, 8, 8], &[0.0; 192]);
    let fault = decode::decode(&checkpoint, DeviceSpec::Cpu, path, other).expect_err("it has three channels");
    assert!(fault.to_string().contains("has shape [1, 3, 8, 8], not [1, 4, rows, columns]"), "{fault}");
}
