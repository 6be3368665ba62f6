// build-all-extra-features.ts: lexical features of question/answer records, JSONL in and JSONL out.
// Exit code 0: written. 1: could not be done, and nothing was written. 2: wrong options.
import { type FileHandle, open } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { type AtomicOutput, openAtomicOutput } from "./atomic-output.ts";
import { lexicalFeatures } from "./lexical-features.ts";
import { readRecords } from "./qa-records.ts";

const USAGE = `usage: build-all-extra-features.ts [--input FILE] [--limit N] [--output FILE] [--help]

  --input FILE   JSONL, one record a line: {"id", "question", "answer"} or the HaluEval form
                 {"ID", "user_query", "chatgpt_response"}; default: the sample data next to this program
  --limit N      stop after N records; default: all
  --output FILE  where the features go, a name that ends in .jsonl; default: a file named after the input and the run in
                 $FEATURES_DIR, or in ~/serveraihub/features
`;

const SAMPLE_DATA = fileURLToPath(new URL("data/questions.jsonl", import.meta.url));
const PROGRESS_EVERY = 500;
/** Bad lines after these are counted, but not reported one by one. */
const FAULTS_SHOWN = 20;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface Options {
  input: string;
  output: string;
  limit: number;
}

/** What is wrong with the options. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Why it cannot be done, in a sentence for the log. */
class Failure extends Error {
  override readonly name = "Failure";
}

try {
  const options = readOptions(process.argv.slice(2));
  if (options) await buildFeatures(options);
  else process.stdout.write(USAGE);
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`Error: ${error.message}\n\n${USAGE}`);
    process.exitCode = EXIT_USAGE;
  } else if (error instanceof Failure) {
    process.stderr.write(`Error: ${error.message}\n`);
    process.exitCode = EXIT_FAILED;
  } else {
    throw error;
  }
}

/** The options, or undefined when help is asked for. */
function readOptions(args: string[]): Options | undefined {
  const values = parseOptions(args);
  if (values.help) return undefined;
  const limit = values.limit === undefined ? Infinity : Number(values.limit);
  if (values.limit !== undefined && (!/^\d{1,15}$/.test(values.limit) || limit < 1)) {
    throw new UsageError(`--limit must be a whole number from 1 on, but it is ${values.limit}`);
  }
  const input = resolve(values.input ?? SAMPLE_DATA);
  const output = resolve(values.output ?? defaultOutput(input));
  // Anyone who may launch this recipe chooses the name: it must not become a script, or another program.
  if (!output.endsWith(".jsonl"))
    throw new UsageError(`--output must end in .jsonl, but it is ${values.output}`);
  return { input, limit, output };
}

function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        input: { type: "string" },
        limit: { type: "string" },
        output: { type: "string" },
        help: { type: "boolean" },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** In the operator's home, because this program may be installed read-only; a separate file for each run. */
function defaultOutput(input: string): string {
  const folder = process.env["FEATURES_DIR"] || join(homedir(), "serveraihub", "features");
  const runId = process.env["HUB_RUN_ID"];
  return join(folder, `${basename(input, extname(input))}${runId ? `.${runId}` : ""}.features.jsonl`);
}

async function buildFeatures({ input, output, limit }: Options): Promise<void> {
  await using file = await openInput(input);
  const features = await openAtomicOutput(output).catch((error: NodeJS.ErrnoException) => {
    throw new Failure(`cannot write to ${output} (${error.code}); name another place with --output`);
  });
  const stopListening = discardWhenStopped(features);
  console.log(`Reading  ${input}`);
  console.log(`Writing  ${output}`);
  try {
    const { good, bad } = await convert(file, features, limit);
    if (good === 0) throw new Failure(`${input} has no record that can be read; bad lines: ${bad}`);
    await features.commit();
    console.log(`Done: ${good} records written to ${output}; bad lines skipped: ${bad}`);
  } catch (error) {
    features.discard();
    if (error instanceof Failure) throw error;
    throw new Failure(
      `stopped by the file system (${(error as NodeJS.ErrnoException).code ?? String(error)})`,
    );
  } finally {
    stopListening();
  }
}

async function openInput(path: string): Promise<FileHandle> {
  return open(path).catch((error: NodeJS.ErrnoException) => {
    throw new Failure(`cannot read ${path} (${error.code}); name a file with --input`);
  });
}

async function convert(
  file: FileHandle,
  output: AtomicOutput,
  limit: number,
): Promise<{ good: number; bad: number }> {
  const started = performance.now();
  let good = 0;
  let bad = 0;
  for await (const line of readRecords(file)) {
    if ("fault" in line) {
      bad++;
      if (bad <= FAULTS_SHOWN) console.log(`line ${line.number} ${line.fault}; skipped`);
      if (bad === FAULTS_SHOWN) console.log("further bad lines are only counted");
      continue;
    }
    const { id, label, marked_spans } = line.record;
    await output.writeLine(JSON.stringify({ id, label, marked_spans, ...lexicalFeatures(line.record) }));
    good++;
    if (good % PROGRESS_EVERY === 0) console.log(progress(good, performance.now() - started));
    if (good === limit) break;
  }
  if (good % PROGRESS_EVERY !== 0) console.log(progress(good, performance.now() - started));
  return { good, bad };
}

function progress(records: number, ms: number): string {
  return `${records} records, ${Math.round(records / (ms / 1000))} records/s`;
}

/** Takes the unfinished output away before the signal ends this process. Returns how to undo that. */
function discardWhenStopped(output: AtomicOutput): () => void {
  const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
  const stop = (signal: NodeJS.Signals): void => {
    output.discard();
    process.stderr.write(`Stopped by ${signal}; the unfinished output is removed\n`);
    stopListening();
    process.kill(process.pid, signal);
  };
  const stopListening = (): void => {
    for (const signal of signals) process.off(signal, stop);
  };
  for (const signal of signals) process.on(signal, stop);
  return stopListening;
}
