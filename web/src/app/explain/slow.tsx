//! Why images take long on this device: what the page found, and what to do in this browser and in others.
import type { State } from '../state';
import { type ExplainKey, x } from './texts';

/** The part of WebGPU that is read here. */
interface Gpu {
  requestAdapter(): Promise<{ features: ReadonlySet<string>; limits: { maxBufferSize: number } } | null>;
}

export interface Findings {
  hasWebGpu: boolean;
  /** Optional features of the adapter that make it faster; `undefined` without an adapter. */
  features: readonly string[] | undefined;
  max_buffer_bytes: number | undefined;
  isSecure: boolean;
  isIsolated: boolean;
  cores: number | undefined;
  /** The browser's rounded memory of the computer; not every browser tells it. */
  memory_gib: number | undefined;
}

/** The optional features that the kernels use. */
const USEFUL = ['shader-f16', 'subgroups'];
const PLATFORMS = [
  'chromium_windows',
  'chromium_macos',
  'chromium_linux',
  'chromium_android',
  'firefox_windows',
  'firefox_macos',
  'firefox_linux',
  'firefox_android',
  'safari_macos',
  'safari_ios',
] as const;
type Platform = (typeof PLATFORMS)[number];

/** Returns what can be found out without the engine. */
export async function findings(): Promise<Findings> {
  const { gpu, deviceMemory } = navigator as { gpu?: Gpu; deviceMemory?: number };
  // A browser that throws has no adapter for this page, either.
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return {
    hasWebGpu: gpu !== undefined,
    features: adapter ? USEFUL.filter((name) => adapter.features.has(name)) : undefined,
    max_buffer_bytes: adapter?.limits.maxBufferSize,
    isSecure: isSecureContext,
    isIsolated: crossOriginIsolated,
    cores: navigator.hardwareConcurrency,
    memory_gib: deviceMemory,
  };
}

/** Returns the browser and system that the page runs in, as the user agent string names them. */
export function platformOf(agent: string): Platform | undefined {
  const system = /Android/.test(agent)
    ? 'android'
    : /iPhone|iPad/.test(agent)
      ? 'ios'
      : /Windows/.test(agent)
        ? 'windows'
        : /Mac OS X/.test(agent)
          ? 'macos'
          : 'linux';
  const browser = /Firefox\//.test(agent) ? 'firefox' : /Chrom(e|ium)\//.test(agent) ? 'chromium' : 'safari';
  // Every browser of iOS is Safari's engine.
  const name = system === 'ios' ? 'safari_ios' : `${browser}_${system}`;
  return PLATFORMS.find((platform) => platform === name);
}

/** Returns the reason, as a key of the texts. */
function reasonOf({ adapter }: State, { hasWebGpu, features, isSecure }: Findings): ExplainKey {
  if (adapter?.is_fallback_adapter === true) return 'reason_fallback';
  if (!isSecure) return 'reason_insecure';
  if (!hasWebGpu) return 'reason_noWebgpu';
  return features === undefined ? 'reason_noAdapter' : 'reason_cpu';
}

export function Slow({ state, found }: { state: State; found: Findings }) {
  const { adapter } = state;
  const here = platformOf(navigator.userAgent);
  const yesNo = (is: boolean): string => x(is ? 'yes' : 'no');
  const rows: [ExplainKey, string][] = [
    ['found_adapter', adapter === undefined ? '–' : `${adapter.name} (${adapter.backend})`],
    ['found_reason', adapter?.reason ?? '–'],
    ['found_webgpu', yesNo(found.hasWebGpu)],
    ['found_features', found.features === undefined ? '–' : found.features.join(', ') || x('none')],
    ['found_secure', yesNo(found.isSecure)],
    ['found_isolated', x('isolation', { isolated: yesNo(found.isIsolated) })],
    ['found_cores', found.cores === undefined ? '–' : String(found.cores)],
    ['found_memory', found.memory_gib === undefined ? '–' : x('memoryAtLeast', { gib: found.memory_gib })],
  ];
  return (
    <>
      <p>{x(reasonOf(state, found))}</p>
      <table>
        <caption>{x('found')}</caption>
        <tbody>
          {rows.map(([key, value]) => (
            <tr key={key}>
              <th scope="row">{x(key)}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {here !== undefined && (
        <section>
          <h3>{x('adviceHere', { platform: nameOf(here) })}</h3>
          <p>{adviceOf(here)}</p>
        </section>
      )}
      <section>
        <h3>{x('adviceAnywhere')}</h3>
        <ul>
          {(['less', 'distilled', 'companion'] as const).map((advice) => (
            <li key={advice}>{x(`advice_${advice}`)}</li>
          ))}
        </ul>
      </section>
      <details>
        <summary>{x('adviceOthers')}</summary>
        <dl>
          {PLATFORMS.filter((platform) => platform !== here).map((platform) => (
            <div key={platform}>
              <dt>{nameOf(platform)}</dt>
              <dd>{adviceOf(platform)}</dd>
            </div>
          ))}
        </dl>
      </details>
    </>
  );
}

function adviceOf(platform: Platform): string {
  return x(`advice_${platform}`, { scheme: /Edg\//.test(navigator.userAgent) ? 'edge' : 'chrome' });
}

function nameOf(platform: Platform): string {
  const [browser = '', system = ''] = platform.split('_');
  const names = {
    chromium: 'Chrome, Edge',
    firefox: 'Firefox',
    safari: 'Safari',
    windows: 'Windows',
    macos: 'macOS',
    linux: 'Linux',
    android: 'Android',
    ios: 'iOS',
  };
  return `${names[browser as keyof typeof names]} · ${names[system as keyof typeof names]}`;
}
