//! The texts of `<pixart-studio>`, in the languages of the page.

const ENGLISH = {
  prompt: 'Prompt',
  settings: 'Settings',
  negative_prompt: 'Negative prompt',
  seed: 'Seed',
  num_inference_steps: 'Steps',
  guidance_scale: 'Guidance scale',
  width: 'Width',
  height: 'Height',
  generate: 'Generate',
  cancel: 'Cancel',
  loading: 'Loading the model',
  step: 'Step {step} of {steps}',
  starting: 'Reading the prompt',
  decoding: 'Decoding the image',
  cancelled: 'Cancelled',
  done: 'Generated in {seconds}',
  confirm: 'Download {size} once, to this browser?',
  download: 'Download',
  decline: 'Not now',
};

export type StudioTexts = typeof ENGLISH;

const TEXTS: Readonly<Record<string, StudioTexts>> = {
  en: ENGLISH,
  de: {
    prompt: 'Prompt',
    settings: 'Einstellungen',
    negative_prompt: 'Negativer Prompt',
    seed: 'Seed',
    num_inference_steps: 'Schritte',
    guidance_scale: 'Guidance-Skala',
    width: 'Breite',
    height: 'Höhe',
    generate: 'Generieren',
    cancel: 'Abbrechen',
    loading: 'Das Modell wird geladen',
    step: 'Schritt {step} von {steps}',
    starting: 'Der Prompt wird gelesen',
    decoding: 'Das Bild wird dekodiert',
    cancelled: 'Abgebrochen',
    done: 'In {seconds} generiert',
    confirm: '{size} einmal in diesen Browser herunterladen?',
    download: 'Herunterladen',
    decline: 'Nicht jetzt',
  },
  zh: {
    prompt: '提示词',
    settings: '设置',
    negative_prompt: '反向提示词',
    seed: '随机种子',
    num_inference_steps: '迭代步数',
    guidance_scale: '提示词引导系数（CFG）',
    width: '宽度',
    height: '高度',
    generate: '生成',
    cancel: '取消',
    loading: '正在加载模型',
    step: '第 {step} 步，共 {steps} 步',
    starting: '正在读取提示词',
    decoding: '正在解码图像',
    cancelled: '已取消',
    done: '生成用时 {seconds}',
    confirm: '要将 {size} 下载到此浏览器吗？只需下载一次。',
    download: '下载',
    decline: '暂不',
  },
  ja: {
    prompt: 'プロンプト',
    settings: '設定',
    negative_prompt: 'ネガティブプロンプト',
    seed: 'シード',
    num_inference_steps: 'ステップ数',
    guidance_scale: 'CFG スケール',
    width: '幅',
    height: '高さ',
    generate: '生成',
    cancel: 'キャンセル',
    loading: 'モデルを読み込んでいます',
    step: 'ステップ {step} / {steps}',
    starting: 'プロンプトを読み取っています',
    decoding: '画像をデコードしています',
    cancelled: 'キャンセルしました',
    done: '生成時間 {seconds}',
    confirm: '{size} をこのブラウザーにダウンロードしますか? 一度だけで済みます。',
    download: 'ダウンロード',
    decline: '今はしない',
  },
  es: {
    prompt: 'Prompt',
    settings: 'Ajustes',
    negative_prompt: 'Prompt negativo',
    seed: 'Semilla',
    num_inference_steps: 'Pasos',
    guidance_scale: 'Escala de guía (CFG)',
    width: 'Ancho',
    height: 'Alto',
    generate: 'Generar',
    cancel: 'Cancelar',
    loading: 'Cargando el modelo',
    step: 'Paso {step} de {steps}',
    starting: 'Leyendo el prompt',
    decoding: 'Decodificando la imagen',
    cancelled: 'Cancelado',
    done: 'Generada en {seconds}',
    confirm: '¿Descargar {size} una sola vez en este navegador?',
    download: 'Descargar',
    decline: 'Ahora no',
  },
};

/** Returns the texts in the language of an element: that of the nearest `lang`, else the browser's; English where there are none. */
export function textsFor(element: Element): { texts: StudioTexts; language: string } {
  const language = element.closest<HTMLElement>('[lang]')?.lang || navigator.language;
  return { texts: TEXTS[language.toLowerCase().split('-')[0] ?? ''] ?? ENGLISH, language };
}

/** Returns a text with `values` in place of its placeholders. */
export function filled(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name]));
}
