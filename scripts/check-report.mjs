// node check-report.mjs SHOTS PAGE...: looks at reports in headless Chromium; see check-report.
import { chromium } from 'playwright-core';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [shots, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const problems = [];
for (const page of pages) {
  for (const [name, width, height] of [['desktop', 1280, 900], ['phone', 320, 640]]) {
    for (const colorScheme of ['light', 'dark']) {
      const what = `${path.basename(page, '.html')}-${name}-${colorScheme}`;
      const check = (is_right, problem) => { if (!is_right) problems.push(`${what}: ${problem}`); };
      const context = await browser.newContext({ viewport: { width, height }, colorScheme, deviceScaleFactor: 1 });
      const tab = await context.newPage();
      tab.on('console', message => check(message.type() !== 'error', `console: ${message.text()}`));
      tab.on('pageerror', error => check(false, `script: ${error}`));
      const address = pathToFileURL(page).href;
      tab.on('request', request => check(request.url() === address || request.url().startsWith('data:'), `request: ${request.url()}`));
      await tab.goto(address);
      const figures = await tab.$$('figure[data-chart]');
      const isStill = path.basename(page).startsWith('cost');
      check(isStill || figures.length > 0, 'no charts');
      for (const figure of figures) {
        const title = await figure.$eval('h2', heading => heading.textContent);
        const segments = await figure.$$eval('.plot path', paths => paths.map(path => path.getAttribute('d').split('L').length));
        check(segments.length > 0 && segments.every(count => count > 1), `${title}: curves of ${segments} points`);
        const broken = await figure.$eval('.plot', plot => /NaN|Infinity|undefined/.test(plot.innerHTML));
        check(!broken, `${title}: numbers that are none`);
        const plot = await figure.$('.plot');
        await plot.scrollIntoViewIfNeeded();
        const box = await plot.boundingBox();
        await tab.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.5);
        const tip = await figure.$eval('.tip', tip => tip.hidden ? '' : tip.textContent);
        check(/^(iteration|unit) [\d,]+\D/.test(tip), `${title}: no values where the pointer is: "${tip}"`);
        const over = await figure.$eval('.tip', tip => { const box = tip.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth; });
        check(!over, `${title}: the values do not fit`);
        await tab.mouse.move(0, 0);
        const button = await figure.$('.legend button');
        const before = segments.length;
        await button.click();
        check((await figure.$$('.plot path')).length === before - 1, `${title}: a curve cannot be hidden`);
        await button.click();
      }
      if (!isStill) {
        const scale = await tab.$('.legend button.scale');
        const label = await scale.textContent();
        await scale.click();
        check((await scale.textContent()) !== label, 'the scale does not change');
        await scale.click();
        await tab.focus('.plot');
        await tab.keyboard.press('ArrowRight');
        check(await tab.$eval('.tip', tip => !tip.hidden), 'the arrow keys show no values');
      }
      for (const diagram of await tab.$$('.reliability svg')) {
        const marks = await diagram.evaluate(svg => [svg.querySelectorAll('rect').length, /NaN|Infinity/.test(svg.innerHTML)]);
        check(marks[0] > 0 && !marks[1], 'a reliability diagram without bars, or with numbers that are none');
      }
      const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(overflow <= 0, `${overflow} pixels too wide`);
      for (const summary of await tab.$$('details.run > summary')) await summary.click();
      const inner = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(inner <= 0, `${inner} pixels too wide when opened`);
      await tab.mouse.move(0, 0);
      await tab.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
      await tab.screenshot({ path: path.join(shots, `${what}.png`), fullPage: true });
      await context.close();
    }
  }
}
await browser.close();
if (problems.length) {
  console.error(problems.join('\n'));
  process.exit(1);
}
console.log(`${pages.length} pages at two widths, light and dark: as they should be; pictures in ${shots}`);
