//! The canvas before the first image: examples that one click generates, and what runs where.
import { render } from 'preact';
import { element } from './dom';
import { t } from './i18n';
import { Icon } from './icons';

export interface Example {
  prompt: string;
  seed?: number;
  /** The address of its image, made by the model that the page opens by itself. */
  image?: string;
}

/** Examples of the model that ships with the page, with the seeds of their images. */
const SCENES: readonly Example[] = (
  [
    ['a red car in the desert', 2, 'car'],
    ['two yellow stars at night', 2, 'stars'],
    ['a purple house in the snow', 2, 'house'],
    ['an orange rocket at sunset', 7, 'rocket'],
    ['a green cactus in the desert', 2, 'cactus'],
    ['a blue fish in the sea', 3, 'fish'],
    ['a red mushroom in a meadow', 2, 'mushroom'],
    ['a yellow boat in the sea', 7, 'boat'],
  ] as const
).map(([prompt, seed, name]) => ({ prompt, seed, image: `models/scenes/examples/${name}.webp` }));

/** Prompts for the published models. */
const PUBLISHED: readonly Example[] = [
  { prompt: 'A small cactus with a happy face in the Sahara desert' },
  { prompt: 'An isometric wooden cabin in a snowy forest, warm light in the windows, evening' },
  { prompt: 'A watercolour of a harbour at dawn, fishing boats, mist over the water' },
  { prompt: 'Portrait photograph of an old sailor with a white beard, soft window light, 85 mm' },
];

export interface Welcome {
  isVisible: boolean;
  /** Whether an image can be generated now. */
  isReady: boolean;
  /** The address of the model; empty without one. */
  checkpoint: string;
  /** The companion that encodes prompts, if not this tab. */
  companion: string | undefined;
  onExample(example: Example): void;
  onModels(): void;
}

const root = element('welcome', HTMLElement);

export function renderWelcome(welcome: Welcome): void {
  root.hidden = !welcome.isVisible;
  if (welcome.isVisible) render(<Examples {...welcome} />, root);
}

function Examples({ isReady, checkpoint, companion, onExample, onModels }: Welcome) {
  const examples = checkpoint.endsWith('/models/scenes/') ? SCENES : PUBLISHED;
  return (
    <>
      <h2>{t(checkpoint === '' ? 'noModel' : 'welcome')}</h2>
      {checkpoint === '' ? (
        <button type="button" onClick={onModels}>
          <Icon name="model" /> {t('chooseModel')}
        </button>
      ) : (
        <ul class={examples === SCENES ? 'images' : 'texts'}>
          {examples.map((example) => (
            <li key={example.prompt}>
              <button type="button" disabled={!isReady} onClick={() => onExample(example)}>
                {example.image !== undefined && <img src={example.image} alt="" width={128} height={128} />}
                <span>{example.prompt}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
      <p class="place">
        <Icon name="lock" /> {companion === undefined ? t('onThisComputer') : t('onCompanion', { companion })}
      </p>
    </>
  );
}
