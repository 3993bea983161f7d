//! The names of buttons that show an icon alone: as a tooltip under the mouse, and in a bubble after a long press on a touch screen, which
//! does nothing else.

const LONG_PRESS_MILLIS = 500;
/** The time in which the name is read after the finger is lifted. */
const READ_MILLIS = 1500;
/** A finger that moves further scrolls. */
const MOVE_MAX = 10;

export function startTooltips(): void {
  const bubble = Object.assign(document.createElement('div'), { id: 'tooltip', hidden: true });
  bubble.setAttribute('role', 'tooltip');
  document.body.append(bubble);
  let pressed: { x: number; y: number; timer: ReturnType<typeof setTimeout> } | undefined;
  let isShown = false;
  let hiding: ReturnType<typeof setTimeout> | undefined;

  document.addEventListener('pointerover', ({ target, pointerType }) => {
    const button = buttonOf(target);
    if (button === null || pointerType === 'touch' || (button.title !== '' && button.dataset.tooltip === undefined)) return;
    // Again each time: the language or the width may have changed.
    button.dataset.tooltip = '';
    button.title = hiddenName(button);
  });
  const release = (): void => {
    clearTimeout(pressed?.timer);
    pressed = undefined;
  };
  const show = (button: HTMLElement, name: string): void => {
    isShown = true;
    clearTimeout(hiding);
    bubble.textContent = name;
    bubble.hidden = false;
    const [at, own] = [button.getBoundingClientRect(), bubble.getBoundingClientRect()];
    const left = Math.min(Math.max(at.left + (at.width - own.width) / 2, 4), innerWidth - own.width - 4);
    const above = at.top - own.height - 8;
    bubble.style.transform = `translate(${left}px, ${above < 0 ? at.bottom + 8 : above}px)`;
  };
  document.addEventListener('pointerdown', (event) => {
    isShown = false;
    release();
    const button = buttonOf(event.target);
    if (button === null || event.pointerType !== 'touch') return;
    const name = hiddenName(button) || button.title;
    if (name === '') return;
    pressed = { x: event.clientX, y: event.clientY, timer: setTimeout(() => show(button, name), LONG_PRESS_MILLIS) };
  });
  document.addEventListener('pointermove', ({ clientX, clientY }) => {
    if (pressed !== undefined && Math.hypot(clientX - pressed.x, clientY - pressed.y) > MOVE_MAX) release();
  });
  for (const type of ['pointerup', 'pointercancel'])
    document.addEventListener(type, () => {
      release();
      hiding = setTimeout(() => (bubble.hidden = true), READ_MILLIS);
    });
  // A long press that shows the tooltip is no click.
  document.addEventListener(
    'click',
    (event) => {
      if (!isShown) return;
      isShown = false;
      event.preventDefault();
      event.stopPropagation();
    },
    { capture: true },
  );
  document.addEventListener('contextmenu', (event) => {
    if (isShown || (pressed !== undefined && buttonOf(event.target) !== null)) event.preventDefault();
  });
}

function buttonOf(target: EventTarget | null): HTMLElement | null {
  return target instanceof Element ? target.closest<HTMLElement>('button, a.quiet') : null;
}

/** Returns the name of a button that shows no text; empty for any other. */
function hiddenName(button: HTMLElement): string {
  const span = button.querySelector('span');
  const text = span === null ? '' : (span.textContent ?? '').trim();
  const isVisible = text !== '' && (span?.offsetWidth ?? 0) > 1;
  if (isVisible || (span === null && (button.textContent ?? '').trim() !== '')) return '';
  return text || (button.getAttribute('aria-label') ?? '');
}
