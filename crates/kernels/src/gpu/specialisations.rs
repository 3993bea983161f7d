//! Every shader text that a launch can compile, for tools and for validation.

use super::wgsl::{Shader, Spec};
use super::{attention, conv, gemm, group_norm, norm, patch};

/// The text of a shader for one set of constants, imports and dtype.
#[derive(Clone, Debug)]
pub struct Specialisation {
    /// The file's name, then imports and constants, then the dtype of activations, separated by dots:
    /// `gemm_registers.weights_q8.ROWS=8.PAIRS=2.f32`.
    pub name: String,
    pub text: String,
}

/// Renders every specialisation that an operation can launch, whatever the shapes of its tensors.
pub fn specialisations() -> impl Iterator<Item = Specialisation> {
    all().into_iter().map(|(shader, spec)| {
        let imports = spec.imports.iter().map(|(_, file)| (*file).to_owned());
        let constants = spec.constants.iter().map(|(name, value)| format!("{name}={value}"));
        let dtype = if spec.half { "f16" } else { "f32" };
        let words = std::iter::once(shader.name.to_owned()).chain(imports).chain(constants);
        let name = words.chain([dtype.to_owned()]).collect::<Vec<_>>().join(".");
        Specialisation { name, text: shader.specialise(&spec) }
    })
}

/// Returns every shader with every specialisation that it is launched with.
pub(super) fn all() -> Vec<(Shader, Spec)> {
    let with_activations = [
        gemm::specialisations(),
        conv::specialisations(),
        attention::specialisations(),
        norm::specialisations(),
        patch::specialisations(),
        group_norm::specialisations(),
    ];
    let halves = |(shader, spec): (Shader, Spec)| [false, true].map(|half| (shader, Spec { half, ..spec.clone() }));
    let mut all: Vec<(Shader, Spec)> = with_activations.into_iter().flatten().flat_map(halves).collect();
    all.push(group_norm::combine_specialisation());
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{all, specialisations};
    use crate::gpu::reflection::validated;

    #[test]
    fn every_specialisation_is_valid_and_has_a_name_of_its_own() {
        let names: HashSet<String> = specialisations()
            .map(|specialisation| {
                validated(&specialisation.text);
                specialisation.name
            })
            .collect();
        assert_eq!(names.len(), all().len());
    }
}
