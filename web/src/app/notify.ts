//! A notification when the queue is done while the page is in the background. The browser is asked for its permission on a click alone.
import { ignore } from '../engine/fault';
import { element } from './dom';
import { t } from './i18n';

/** The localStorage key of the choice. */
const CHOICE_KEY = 'notify';
const box = element('notify', HTMLInputElement);

/** Connects the setting; calls `onRefused` where the browser shows no notifications for this page. */
export function startNotifications(onRefused: (text: string) => void): void {
  if (!('Notification' in globalThis)) {
    box.disabled = true;
    return;
  }
  box.checked = Notification.permission === 'granted' && readChoice();
  box.addEventListener('change', async () => {
    const isGranted = !box.checked || (await Notification.requestPermission()) === 'granted';
    if (!isGranted) {
      box.checked = false;
      onRefused(t('notifyRefused'));
    }
    try {
      localStorage.setItem(CHOICE_KEY, String(box.checked));
    } catch {
      // Without storage the choice lasts until the window is closed.
    }
  });
}

/** Tells that the queue is done, where the user wants it and looks elsewhere. */
export function notifyDone(prompt: string): void {
  if (!box.checked || !document.hidden) return;
  show(t('queueDone'), { body: prompt, icon: 'icon.svg', tag: 'pixart-web queue' }).catch(ignore);
}

/** Browsers of phones show notifications by the service worker alone. One that is not shown costs nothing else. */
async function show(title: string, options: NotificationOptions): Promise<void> {
  const registration = await navigator.serviceWorker?.getRegistration();
  try {
    const shown = new Notification(title, options);
    shown.addEventListener('click', () => {
      window.focus();
      shown.close();
    });
  } catch {
    await registration?.showNotification(title, options);
  }
}

function readChoice(): boolean {
  try {
    return localStorage.getItem(CHOICE_KEY) === 'true';
  } catch {
    return false;
  }
}
