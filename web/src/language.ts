//! The language of the page, selected before anything is painted: `?lang=`, else the one that was selected before, else the first of the
//! browser's languages that has texts. A classic script in the head of index.html, which is written in English.
{
  /** The languages with texts in app/texts. */
  const LANGUAGES = ['en', 'de', 'zh-Hans', 'ja', 'es'];
  const primary = (language: string): string => language.toLowerCase().split('-')[0] ?? '';

  const stored = (): string[] => {
    try {
      return [localStorage.getItem('language') ?? ''];
    } catch {
      // This window has no storage.
      return [];
    }
  };
  const wanted = [new URLSearchParams(location.search).get('lang') ?? '', ...stored(), ...navigator.languages];
  const found = wanted.map((language) => LANGUAGES.find((known) => primary(known) === primary(language)));
  document.documentElement.lang = found.find((known) => known !== undefined) ?? 'en';
}
