//! Parts of the page that are downloaded when they are first used. The service worker stores them with the page.
import { fault, faultOf } from '../engine/fault';
import { t } from './i18n';

/** Imports a part of the page. Rejects with a `Fault` where it cannot be downloaded: without a network, or after the server has
    replaced this build by another. */
export async function loadPart<T>(name: string, load: () => Promise<T>): Promise<T> {
  return load().catch(() => {
    throw fault('network', `the page's ${name} could not be downloaded`, 'check the network, then reload the page');
  });
}

/** Returns what was thrown as a remark. */
export function remarkOf(thrown: unknown): string {
  const { code, what, remedy } = faultOf(thrown);
  return `${t(`fault_${code}`)} ${what}: ${remedy}.`;
}
