'use strict';
const { charts } = JSON.parse(document.getElementById('data').textContent);
for (const figure of document.querySelectorAll('figure[data-chart]')) draw(figure, charts[figure.dataset.chart]);

function draw(figure, chart) {
  const plot = figure.querySelector('.plot'), tip = figure.querySelector('.tip'), legend = figure.querySelector('.legend');
  const hidden = new Set();
  const axes = [chart.left, chart.right].filter(Boolean);
  const colour = curve => `var(--run-${curve.run % 12})`;
  const dash = curve => curve.is_dashed ? '4 3' : 'none';
  const thickness = curve => curve.is_dashed ? 1.25 : 2;
  let scale = null, at = null;

  chart.curves.forEach((curve, index) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('aria-pressed', 'true');
    button.title = 'hide or show';
    button.innerHTML = `<svg viewBox="0 0 24 8" aria-hidden="true"><line x1="0" y1="4" x2="24" y2="4"
      style="stroke:${colour(curve)};stroke-width:${thickness(curve)};stroke-dasharray:${dash(curve)}"/></svg>`;
    button.append(curve.label);
    button.onclick = () => {
      hidden.has(index) ? hidden.delete(index) : hidden.add(index);
      button.setAttribute('aria-pressed', String(!hidden.has(index)));
      render();
    };
    legend.append(button);
  });
  for (const axis of axes.filter(axis => axis.is_switchable)) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'scale';
    const name = () => button.textContent = `${axis.label}: ${axis.is_logarithmic ? 'logarithmic' : 'linear'}`;
    button.onclick = () => { axis.is_logarithmic = !axis.is_logarithmic; name(); render(); };
    name();
    legend.append(button);
  }

  function render() {
    const width = Math.max(240, plot.clientWidth), height = Math.round(Math.min(380, Math.max(190, width * 0.45)));
    const room = { left: 52, right: chart.right ? 52 : 12, top: 22, bottom: 34 };
    const last = Math.max(1, ...chart.curves.map(curve => curve.points[curve.points.length - 1][0]));
    const x = value => room.left + (width - room.left - room.right) * value / last;
    const sides = axes.map((axis, side) => {
      const curves = chart.curves.filter((curve, index) => !hidden.has(index) && curve.is_on_right === (side === 1));
      return vertical(axis, curves.flatMap(curve => curve.points.map(point => point[1])), room.top, height - room.bottom);
    });
    const lines = sides[0].ticks.map(tick =>
      `<line class="grid" x1="${room.left}" x2="${width - room.right}" y1="${sides[0].y(tick)}" y2="${sides[0].y(tick)}"/>`);
    const labels = sides.flatMap((side, index) => side.ticks.map(tick => index === 0
      ? `<text x="${room.left - 6}" y="${side.y(tick) + 4}" text-anchor="end">${short(tick)}</text>`
      : `<text x="${width - room.right + 6}" y="${side.y(tick) + 4}">${short(tick)}</text>`));
    const steps = linearTicks(0, last, Math.max(3, Math.floor(width / 110)));
    const bottoms = steps.map(tick => `<text x="${x(tick)}" y="${height - 16}" text-anchor="middle">${short(tick)}</text>`);
    const names = [`<text x="0" y="12">${axes[0].label}</text>`,
      axes[1] ? `<text x="${width}" y="12" text-anchor="end">${axes[1].label}</text>` : '',
      `<text x="${width - room.right}" y="${height - 2}" text-anchor="end">${chart.step}s</text>`];
    const clip = `clip-${figure.dataset.chart}`;
    const paths = chart.curves.map((curve, index) => {
      if (hidden.has(index)) return '';
      const y = sides[curve.is_on_right ? 1 : 0].y;
      const style = `fill:none;stroke:${colour(curve)};stroke-width:${thickness(curve)};stroke-dasharray:${dash(curve)}`;
      if (curve.points.length === 1) {
        const [iteration, value] = curve.points[0];
        return `<circle cx="${x(iteration)}" cy="${y(value)}" r="3" style="fill:${colour(curve)}"/>`;
      }
      const d = curve.points.map(([iteration, value], k) => `${k ? 'L' : 'M'}${x(iteration).toFixed(1)} ${y(value).toFixed(1)}`);
      return `<path d="${d.join('')}" style="${style}"/>`;
    });
    plot.innerHTML = `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true">
      <clipPath id="${clip}"><rect x="${room.left}" y="${room.top - 2}" width="${width - room.left - room.right + 2}"
        height="${height - room.top - room.bottom + 4}"/></clipPath>
      ${[...lines, ...labels, ...bottoms, ...names].join('')}<g clip-path="url(#${clip})">${paths.join('')}</g>
      <g class="marks"></g></svg>`;
    scale = { x, sides, room, width, height, last };
    if (at !== null) show(at); else tip.hidden = true;
  }

  /** Values of all visible curves at the measured iteration nearest to `iteration`. */
  function show(iteration) {
    const seen = chart.curves.map((curve, index) => ({ curve, index })).filter(({ index }) => !hidden.has(index));
    if (!seen.length) { hide(); return; }
    const found = seen.map(({ curve }) => ({ curve, point: nearest(curve.points, iteration) }));
    const closest = found.reduce((a, b) => Math.abs(b.point[0] - iteration) < Math.abs(a.point[0] - iteration) ? b : a);
    at = closest.point[0];
    const left = scale.x(at);
    const dots = found.map(({ curve, point }) => `<circle cx="${scale.x(point[0])}"
      cy="${Math.max(scale.room.top, scale.sides[curve.is_on_right ? 1 : 0].y(point[1]))}" r="3.5" style="fill:${colour(curve)}"/>`);
    plot.querySelector('.marks').innerHTML = `<line class="cross" x1="${left}" x2="${left}" y1="${scale.room.top}"
      y2="${scale.height - scale.room.bottom}"/>${dots.join('')}`;
    tip.replaceChildren();
    const head = document.createElement('b');
    head.textContent = `${chart.step} ${at.toLocaleString('en')}`;
    tip.append(head);
    for (const { curve, point } of found) {
      const row = document.createElement('div');
      const when = point[0] === at ? '' : ` (at ${point[0].toLocaleString('en')})`;
      row.textContent = `${curve.label} ${exact(point[1])}${when}`;
      row.style.color = colour(curve);
      tip.append(row);
    }
    tip.hidden = false;
    const middle = plot.offsetLeft + left * plot.clientWidth / scale.width;
    const isRight = left > scale.width / 2;
    tip.style.left = isRight ? 'auto' : `${middle + 12}px`;
    tip.style.right = isRight ? `${figure.clientWidth - middle + 12}px` : 'auto';
    tip.style.top = `${plot.offsetTop + scale.room.top}px`;
  }

  function hide() {
    at = null;
    tip.hidden = true;
    const marks = plot.querySelector('.marks');
    if (marks) marks.innerHTML = '';
  }

  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect();
    const across = (event.clientX - box.left) * scale.width / box.width - scale.room.left;
    show(scale.last * across / (scale.width - scale.room.left - scale.room.right));
  });
  plot.addEventListener('pointerleave', hide);
  plot.addEventListener('blur', hide);
  plot.addEventListener('keydown', event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...new Set(chart.curves.flatMap(curve => curve.points.map(point => point[0])))].sort((a, b) => a - b);
    const next = at === null ? 0 : all.indexOf(at) + step;
    show(all[Math.min(all.length - 1, Math.max(0, next))]);
  });
  new ResizeObserver(render).observe(plot);
  render();
}

/** How an axis maps values to heights between `top` and `bottom`, and where its ticks are. */
function vertical(axis, values, top, bottom) {
  const sorted = values.slice().sort((a, b) => a - b);
  const most = sorted.length ? sorted[sorted.length - 1] : 1;
  // The first few tests must not flatten the rest.
  const usual = sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.95))] : 1;
  if (axis.is_logarithmic) {
    const least = sorted.length ? sorted[0] : 0.1;
    const [low, high] = [Math.log10(least) - 0.06, Math.log10(most) + 0.06];
    const y = value => bottom - (bottom - top) * (Math.log10(value) - low) / (high - low);
    const digits = high - low > 2.2 ? [1] : [1, 2, 5];
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const digit of digits) {
        const tick = digit * 10 ** power;
        if (Math.log10(tick) >= low && Math.log10(tick) <= high) ticks.push(tick);
      }
    }
    // A narrow range may hold none of these.
    return { y, ticks: ticks.length > 1 ? ticks : linearTicks(10 ** low, 10 ** high, 4) };
  }
  const low = axis.has_zero || !sorted.length ? 0 : sorted[0];
  const high = Math.min(most, usual * 1.3) * 1.05 || 1;
  return { y: value => bottom - (bottom - top) * (value - low) / (high - low), ticks: linearTicks(low, high, 5) };
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(digit => digit * power >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k++) ticks.push(k * step);
  return ticks;
}

function nearest(points, iteration) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < iteration) low = middle; else high = middle;
  }
  return Math.abs(points[low][0] - iteration) <= Math.abs(points[high][0] - iteration) ? points[low] : points[high];
}

function short(value) {
  if (value >= 1000 && value % 100 === 0) return `${value / 1000}k`;
  return String(Number(value.toPrecision(3)));
}

function exact(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(4)));
}
