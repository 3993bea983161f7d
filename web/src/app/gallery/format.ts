//! Dates and sizes in the language of the page.
const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];

export function formatDate(millis: number): string {
  return new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: 'medium', timeStyle: 'short' }).format(millis);
}

export function formatBytes(bytes: number): string {
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), UNITS.length - 1);
  const options = { style: 'unit', unit: UNITS[power] ?? 'byte', maximumFractionDigits: power > 2 ? 1 : 0 } as const;
  return new Intl.NumberFormat(document.documentElement.lang, options).format(bytes / 1000 ** power);
}
