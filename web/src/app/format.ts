//! Numbers, sizes, times and dates in the language of the page.

const BYTE_UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
const MEGA = 2;
/** The times in seconds from which minutes and hours are shown. */
const MINUTES_FROM = 90;
const HOURS_FROM = 5400;

function numberFormat(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  return new Intl.NumberFormat(document.documentElement.lang, options);
}

/** Formats a number with exactly `digits` after the decimal separator. */
export function formatNumber(value: number, digits = 0): string {
  return numberFormat({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** Formats a number as it is, without grouping: seeds and counts inside of a text. */
export function formatPlain(value: number): string {
  return numberFormat({ useGrouping: false, maximumFractionDigits: 20 }).format(value);
}

/** Formats a part of 1, in whole percent, rounded down. */
export function formatPercent(part: number): string {
  return numberFormat({ style: 'percent' }).format(Math.floor(100 * part) / 100);
}

export function formatBytes(bytes: number): string {
  return formatSize(bytes, '');
}

/** Formats a rate in bytes a second. */
export function formatRate(bytes_per_second: number): string {
  return formatSize(bytes_per_second, '-per-second');
}

/** Formats a time in seconds, minutes or hours; by default with the precision of an estimate. */
export function formatDuration(seconds: number, digits?: number): string {
  const [value, unit] =
    seconds < MINUTES_FROM ? [seconds, 'second'] : seconds < HOURS_FROM ? [seconds / 60, 'minute'] : [seconds / 3600, 'hour'];
  const shown = digits ?? (value < 10 ? 1 : 0);
  return numberFormat({ style: 'unit', unit, minimumFractionDigits: shown, maximumFractionDigits: shown }).format(value);
}

export function formatDate(millis: number): string {
  return new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: 'medium', timeStyle: 'short' }).format(millis);
}

function formatSize(bytes: number, per: string): string {
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), BYTE_UNITS.length - 1);
  const value = bytes / 1000 ** power;
  const digits = power < MEGA || value >= 100 ? 0 : 1;
  const unit = `${BYTE_UNITS[power]}${per}`;
  return numberFormat({ style: 'unit', unit, minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}
