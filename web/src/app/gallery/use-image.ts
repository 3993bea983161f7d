//! The object URL of an image's file while a component shows it.
import { useEffect, useState } from 'preact/hooks';
import type { GalleryStore } from './store';

/** Returns the URL; `undefined` while the file is read, and `gone` where another tab has deleted it. */
export function useImage(store: GalleryStore, id: number, onFailed: (thrown: unknown) => void): string | 'gone' | undefined {
  const [image, setImage] = useState<{ id: number; url: string }>();
  useEffect(() => {
    let url = '';
    let isShown = true;
    store.gallery.image(id).then((png) => {
      if (!isShown) return;
      if (png !== undefined) url = URL.createObjectURL(png);
      setImage({ id, url: url || 'gone' });
    }, onFailed);
    return () => {
      isShown = false;
      URL.revokeObjectURL(url);
    };
  }, [id]);
  return image?.id === id ? image.url : undefined;
}
