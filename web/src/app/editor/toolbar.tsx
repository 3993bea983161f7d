//! The tools of the editor, the settings of the tool, and what is done with the mask.

import { formatPercent, formatPlain } from '../format';
import type { TextKey } from '../i18n';
import { t } from '../i18n';
import { cropShapes } from './geometry';
import { EditorIcon, type EditorIconName } from './icons';
import { type EditorSession, type Tool, ZOOM_FACTOR } from './session';

const TOOLS: readonly { tool: Tool; icon: EditorIconName; label: TextKey; key: string }[] = [
  { tool: 'brush', icon: 'brush', label: 'editorBrush', key: 'B' },
  { tool: 'eraser', icon: 'eraser', label: 'editorEraser', key: 'E' },
  { tool: 'hand', icon: 'hand', label: 'editorHand', key: 'H' },
  { tool: 'crop', icon: 'crop', label: 'editorCrop', key: 'C' },
  { tool: 'extend', icon: 'extend', label: 'editorExtend', key: 'X' },
];

interface ToolButtonProps {
  icon: EditorIconName;
  label: TextKey;
  /** The key that does the same, as it is shown, and as assistive technology reads it. */
  keys?: string | undefined;
  shortcut?: string | undefined;
  id?: string;
  pressed?: boolean;
  disabled?: boolean;
  onClick: () => void;
}

export function ToolButton({ icon, label, keys, shortcut = keys, id, pressed, disabled = false, onClick }: ToolButtonProps) {
  return (
    <button
      type="button"
      class="quiet tool"
      id={id}
      aria-label={t(label)}
      title={keys === undefined ? t(label) : `${t(label)} (${keys})`}
      aria-keyshortcuts={shortcut}
      aria-pressed={pressed}
      // A button that is disabled while it has the focus would lose it.
      aria-disabled={disabled}
      onClick={() => disabled || onClick()}
    >
      <EditorIcon name={icon} />
    </button>
  );
}

export function Toolbar({ session, onRemove }: { session: EditorSession; onRemove: () => void }) {
  const { document, tool } = session;
  return (
    <div class="editor-tools" role="toolbar" aria-label={t('editorTools')}>
      <div class="group">
        {TOOLS.map((entry) => (
          <ToolButton
            key={entry.tool}
            icon={entry.icon}
            label={entry.label}
            keys={entry.key}
            id={`tool-${entry.tool}`}
            pressed={tool === entry.tool}
            onClick={() => session.choose(entry.tool)}
          />
        ))}
      </div>
      <div class="group">
        <ToolButton
          icon="undo"
          label="editorUndo"
          keys="Ctrl+Z"
          shortcut="Control+Z"
          id="editor-undo"
          disabled={!document?.canUndo}
          onClick={() => session.undo()}
        />
        <ToolButton
          icon="redo"
          label="editorRedo"
          keys="Ctrl+Shift+Z"
          shortcut="Control+Shift+Z"
          id="editor-redo"
          disabled={!document?.canRedo}
          onClick={() => session.redo()}
        />
      </div>
      <div class="group">
        <ToolButton icon="invert" label="invertMask" keys="I" id="invert-mask" onClick={() => session.invert()} />
        <ToolButton icon="fill" label="fillMask" id="fill-mask" onClick={() => session.fill(255)} />
        <ToolButton icon="clear" label="clearMask" keys="Del" shortcut="Delete" id="clear-mask" onClick={() => session.fill(0)} />
      </div>
      <div class="group">
        <ToolButton icon="trash" label="removeInputImage" id="remove-input-image" onClick={onRemove} />
      </div>
    </div>
  );
}

export function ZoomButtons({ session }: { session: EditorSession }) {
  return (
    <fieldset class="editor-zoom" aria-label={t('editorZoom')}>
      <ToolButton icon="minus" label="zoomOut" keys="-" id="zoom-out" onClick={() => session.zoom(1 / ZOOM_FACTOR)} />
      <output id="zoom-level">{formatPercent(session.view.scale)}</output>
      <ToolButton icon="plus" label="zoomIn" keys="+" id="zoom-in" onClick={() => session.zoom(ZOOM_FACTOR)} />
      <ToolButton icon="fit" label="zoomFit" keys="0" id="zoom-fit" onClick={() => session.fit()} />
      <ToolButton icon="actual" label="zoomActual" keys="1" id="zoom-actual" onClick={() => session.actualSize()} />
    </fieldset>
  );
}

export function ToolOptions({ session, strength }: { session: EditorSession; strength: StrengthField }) {
  const { tool } = session;
  return (
    <div class="editor-options">
      {(tool === 'brush' || tool === 'eraser') && <BrushOptions session={session} />}
      {tool === 'crop' && <CropOptions session={session} />}
      {tool === 'extend' && <ExtendOptions session={session} />}
      {tool === 'hand' && <p>{t('editorHandHint')}</p>}
      <label class="range">
        <span>{t('strength')}</span>
        <input
          type="range"
          id="editor-strength"
          min="0.05"
          max="1"
          step="0.05"
          value={strength.value}
          onInput={({ currentTarget }) => strength.set(currentTarget.value)}
        />
        <output>{formatPlain(Number(strength.value))}</output>
      </label>
    </div>
  );
}

/** The field of the form that holds the strength. */
export interface StrengthField {
  value: string;
  set(value: string): void;
}

function BrushOptions({ session }: { session: EditorSession }) {
  const { size, sizeMax, softness } = session.brush;
  return (
    <>
      <label class="range">
        <span>{t('brushSize')}</span>
        <input
          type="range"
          id="brush-size"
          min="1"
          max={sizeMax}
          value={size}
          aria-keyshortcuts="[ ]"
          title="[ ]"
          onInput={({ currentTarget }) => session.setBrush({ size: currentTarget.valueAsNumber })}
        />
        <output>{size}</output>
      </label>
      <label class="range">
        <span>{t('brushSoftness')}</span>
        <input
          type="range"
          id="brush-softness"
          min="0"
          max="1"
          step="0.05"
          value={softness}
          onInput={({ currentTarget }) => session.setBrush({ softness: currentTarget.valueAsNumber })}
        />
        <output>{formatPercent(softness)}</output>
      </label>
    </>
  );
}

function CropOptions({ session }: { session: EditorSession }) {
  const shapes = cropShapes(session.host.limits());
  const chosen = session.crop?.shape.name;
  if (shapes.length === 0) return <p>{t('cropNeedsModel')}</p>;
  return (
    <div class="choices">
      <label class="visually-hidden" for="crop-shape">
        {t('aspectRatio')}
      </label>
      <select
        id="crop-shape"
        value={chosen}
        onChange={({ currentTarget }) => {
          const shape = shapes.find(({ name }) => name === currentTarget.value);
          if (shape !== undefined) session.setCrop({ shape });
        }}
      >
        {shapes.map(({ name, width, height }) => (
          <option key={name} value={name}>{`${name} · ${width} × ${height}`}</option>
        ))}
      </select>
      <Decision id="crop" label="cropApply" onApply={() => session.applyCrop()} onCancel={() => session.choose('brush')} />
    </div>
  );
}

function ExtendOptions({ session }: { session: EditorSession }) {
  return (
    <div class="choices">
      <p>{t('extendHint')}</p>
      <Decision id="extend" label="extendApply" onApply={() => session.applyExtension()} onCancel={() => session.choose('brush')} />
    </div>
  );
}

interface DecisionProps {
  id: string;
  label: TextKey;
  onApply: () => void;
  onCancel: () => void;
}

function Decision({ id, label, onApply, onCancel }: DecisionProps) {
  return (
    <>
      <button type="button" class="primary" id={`${id}-apply`} onClick={onApply}>
        <EditorIcon name="apply" /> {t(label)}
      </button>
      <button type="button" id={`${id}-cancel`} onClick={onCancel}>
        {t('cancel')}
      </button>
    </>
  );
}
