#!/usr/bin/env node
/** Entry of the process: runs the command line and turns errors into exit codes. */
import { run } from './cli/cli.js';

process.exitCode = await run(process.argv.slice(2));
