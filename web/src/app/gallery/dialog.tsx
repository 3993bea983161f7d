//! A modal dialog that fills the screen.
import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { commandOf } from '../shortcuts';

interface DialogProps {
  id: string;
  label: string;
  onClose: () => void;
  onKeyDown?: (event: KeyboardEvent) => void;
  /** Called once it is gone. */
  onGone: () => void;
  children: ComponentChildren;
}

export function Dialog({ id, label, onClose, onKeyDown, onGone, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    dialog.current?.showModal();
    dialog.current?.focus();
    return onGone;
  }, []);
  const onKey = (event: KeyboardEvent): void => {
    if (commandOf('lightbox', event) !== 'close') return onKeyDown?.(event);
    // The panel under it stays open.
    event.preventDefault();
    event.stopPropagation();
    onClose();
  };
  return (
    <dialog id={id} class="gallery-dialog" ref={dialog} aria-label={label} tabIndex={-1} onClose={onClose} onKeyDown={onKey}>
      {children}
    </dialog>
  );
}
