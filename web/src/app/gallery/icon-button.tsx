//! A button with an icon.
import { Icon, type IconName } from '../icons';

interface IconButtonProps {
  icon: IconName;
  label: string;
  /** The state of a toggle button. */
  pressed?: boolean | undefined;
  disabled?: boolean;
  focusable?: boolean;
  class?: string;
  onClick: (event: MouseEvent) => void;
}

/** A button with an icon, whose name is a tooltip, too. */
export function IconButton({ icon, label, pressed, disabled = false, focusable = true, class: className = '', onClick }: IconButtonProps) {
  return (
    <button
      type="button"
      class={`icon-button ${className}`}
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      disabled={disabled}
      tabIndex={focusable ? 0 : -1}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
