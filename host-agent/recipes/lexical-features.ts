/** A question with its answer, whatever form it came in. */
export interface QaRecord {
  id: string;
  question: string;
  answer: string;
  /** The label that the data set gives the answer, if any. */
  label: string | null;
  /** How many spans of the answer the data set marks as hallucinated. */
  marked_spans: number | null;
}

/**
 * What can be counted in a question and its answer. A ratio without a
 * denominator (an answer without a word) is null. A token is a run of letters,
 * marks and digits, with apostrophes or hyphens inside, in lower case; a
 * character is a code point of the text in NFC.
 */
export interface LexicalFeatures {
  question_tokens: number;
  answer_tokens: number;
  /** Different tokens of the answer / its tokens. */
  type_token_ratio: number | null;
  /** Tokens that occur in the answer exactly once / its tokens. */
  hapax_ratio: number | null;
  /** Mean number of characters of the answer's tokens. */
  mean_word_length: number | null;
  /** Pieces of the answer between `.`, `!`, `?`, `…`, their full-width forms and line ends that hold a token. */
  sentence_count: number;
  longest_sentence_tokens: number;
  /** Punctuation (Unicode P) / characters that are not blank. */
  punctuation_ratio: number | null;
  /** Decimal digits (Unicode Nd) / characters that are not blank. */
  digit_ratio: number | null;
  /** English stop words / tokens of the answer. */
  stop_word_ratio: number | null;
  /** Pairs of neighbouring tokens that have occurred before / pairs. */
  repetition_ratio: number | null;
  /** Different tokens in both question and answer / in either (Jaccard). */
  question_overlap: number | null;
  /** Different tokens of the question that the answer has too / different tokens of the question. */
  question_coverage: number | null;
  /** Automated Readability Index: 4.71 characters/token + 0.5 tokens/sentence - 21.43, over the answer's tokens. */
  readability_index: number | null;
}

const TOKEN = /[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*/gu;
/** A dot ends a sentence only before a blank or the end: not in 3.14 or example.org. */
const SENTENCE_END = /[.!?…]+(?=[\s"'”’)\]]|$)|[。！？]+|\n+/u;
const STOP_WORDS = new Set(
  (
    "a about after all also an and any are as at be because been before being but by can could did do does " +
    "for from had has have he her him his how i if in into is it its me more most my no not of on or other " +
    "our out over she so some such than that the their them then there these they this those to too up us " +
    "was we were what when where which who why will with would you your"
  ).split(" "),
);

/** Computes every feature; ratios are rounded to four decimals. */
export function lexicalFeatures({
  question,
  answer,
}: Pick<QaRecord, "question" | "answer">): LexicalFeatures {
  const text = answer.normalize("NFC");
  const tokens = tokensOf(text);
  const types = countEach(tokens);
  const questionTokens = tokensOf(question.normalize("NFC"));
  const questionTypes = new Set(questionTokens);
  const shared = [...questionTypes].filter((token) => types.has(token)).length;
  const sentences = sentenceLengths(text);
  const characters = Array.from(text).filter((char) => !/\s/u.test(char));
  const letters = sum(tokens.map((token) => Array.from(token).length));
  const pairs = tokens.slice(1).map((token, i) => `${tokens[i]} ${token}`);

  return {
    question_tokens: questionTokens.length,
    answer_tokens: tokens.length,
    type_token_ratio: ratio(types.size, tokens.length),
    hapax_ratio: ratio([...types.values()].filter((count) => count === 1).length, tokens.length),
    mean_word_length: ratio(letters, tokens.length),
    sentence_count: sentences.length,
    longest_sentence_tokens: sentences.reduce((longest, length) => Math.max(longest, length), 0),
    punctuation_ratio: ratio(countMatching(characters, /\p{P}/u), characters.length),
    digit_ratio: ratio(countMatching(characters, /\p{Nd}/u), characters.length),
    stop_word_ratio: ratio(tokens.filter((token) => STOP_WORDS.has(token)).length, tokens.length),
    repetition_ratio: ratio(pairs.length - new Set(pairs).size, pairs.length),
    question_overlap: ratio(shared, questionTypes.size + types.size - shared),
    question_coverage: ratio(shared, questionTypes.size),
    readability_index:
      tokens.length === 0
        ? null
        : round(4.71 * (letters / tokens.length) + 0.5 * (tokens.length / sentences.length) - 21.43),
  };
}

function tokensOf(text: string): string[] {
  return (text.match(TOKEN) ?? []).map((token) => token.toLowerCase());
}

function countEach(tokens: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  return counts;
}

/** The number of tokens of each sentence that has any. */
function sentenceLengths(text: string): number[] {
  return text
    .split(SENTENCE_END)
    .map((sentence) => tokensOf(sentence).length)
    .filter((length) => length > 0);
}

function countMatching(characters: readonly string[], pattern: RegExp): number {
  return characters.filter((char) => pattern.test(char)).length;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : round(part / whole);
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
