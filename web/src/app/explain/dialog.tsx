//! A modal dialog with a title and a button that closes it.
import { type ComponentChild, render } from 'preact';
import { t } from '../i18n';
import { Icon } from '../icons';
import { commandOf } from '../shortcuts';

/** Opens the dialog; a press outside of it or Escape closes it. */
export function openDialog(id: string, title: string, content: ComponentChild): void {
  const dialog = document.createElement('dialog');
  Object.assign(dialog, { id: `explain-${id}`, className: 'explain' });
  dialog.setAttribute('aria-labelledby', `explain-${id}-title`);
  dialog.addEventListener('close', () => {
    render(null, dialog);
    dialog.remove();
  });
  // Not left to the browser, which may close a panel behind it that was opened later.
  dialog.addEventListener('keydown', (event) => {
    if (commandOf('page', event) !== 'closePanel') return;
    event.preventDefault();
    dialog.close();
  });
  dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close());
  document.body.append(dialog);
  render(
    <div class="explain-body">
      <div class="panel-head">
        <h2 id={`explain-${id}-title`}>{title}</h2>
        <button type="button" class="quiet" aria-label={t('close')} onClick={() => dialog.close()}>
          <Icon name="close" />
        </button>
      </div>
      {content}
    </div>,
    dialog,
  );
  dialog.showModal();
}
