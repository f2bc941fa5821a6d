/**
 * Runs while npm installs the package, ahead of the scripts of its dependencies. ONNX Runtime's script would download
 * CUDA libraries from outside the registry, and fail the whole install where that host is out of reach. The script has
 * a switch for its caller alone (`ONNXRUNTIME_NODE_INSTALL=skip`), so this one empties its list of downloads.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

function listOfDownloads() {
  try {
    const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
    return join(root, 'script', 'install-metadata.js');
  } catch {
    // In a checkout the dependencies come later, without their scripts (.npmrc).
    return null;
  }
}

const file = listOfDownloads();
if (file !== null && existsSync(file)) {
  const text = readFileSync(file, 'utf8');
  // A new file: pnpm links the old one to its store.
  rmSync(file);
  writeFileSync(file, `${text}\nmodule.exports.requirements = {};\n`);
}
