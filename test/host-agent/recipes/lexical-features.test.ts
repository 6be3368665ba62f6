import { describe, expect, test } from "vitest";

import { lexicalFeatures } from "../../../host-agent/recipes/lexical-features.ts";

describe("the lexical features", () => {
  test("are what one counts by hand", () => {
    const features = lexicalFeatures({
      question: "Is the cat in?",
      answer: "The cat, the cat! It is 42 today. Yes",
    });

    expect(features).toEqual({
      question_tokens: 4,
      answer_tokens: 9, // the cat the cat | it is 42 today | yes
      type_token_ratio: 0.7778, // the cat it is 42 today yes: 7 / 9
      hapax_ratio: 0.5556, // it is 42 today yes: 5 / 9
      mean_word_length: 2.8889, // 26 / 9
      sentence_count: 3,
      longest_sentence_tokens: 4,
      punctuation_ratio: 0.1034, // , ! . : 3 / 29
      digit_ratio: 0.069, // 2 / 29
      stop_word_ratio: 0.4444, // the the it is: 4 / 9
      repetition_ratio: 0.125, // of 8 pairs, "the cat" a second time
      question_overlap: 0.375, // the cat is: 3 of {is the cat in} + {it 42 today yes} = 8
      question_coverage: 0.75, // all but "in"
      readability_index: -6.3233, // 4.71 * 26/9 + 0.5 * 9/3 - 21.43
    });
  });

  test("count characters of any script as characters, however they are encoded", () => {
    const composed = lexicalFeatures({ question: "", answer: "na\u00efve caf\u00e9 \u{1f382}" });
    const decomposed = lexicalFeatures({ question: "", answer: "nai\u0308ve cafe\u0301 \u{1f382}" });

    expect(decomposed).toEqual(composed);
    expect(composed).toMatchObject({ answer_tokens: 2, mean_word_length: 4.5, punctuation_ratio: 0 });
    expect(lexicalFeatures({ question: "", answer: "東京です。人口は約1400万人です。" })).toMatchObject({
      sentence_count: 2,
      digit_ratio: 0.2222, // 4 / 18
      punctuation_ratio: 0.1111,
    });
  });

  test("take 3.14, don't and well-known for one token and no end of a sentence", () => {
    expect(
      lexicalFeatures({ question: "", answer: "Don't say well-known pi is 3.14 (or so)." }),
    ).toMatchObject({
      answer_tokens: 9,
      sentence_count: 1,
    });
  });

  test("are null where there is nothing to divide by", () => {
    expect(lexicalFeatures({ question: "", answer: "" })).toEqual({
      question_tokens: 0,
      answer_tokens: 0,
      type_token_ratio: null,
      hapax_ratio: null,
      mean_word_length: null,
      sentence_count: 0,
      longest_sentence_tokens: 0,
      punctuation_ratio: null,
      digit_ratio: null,
      stop_word_ratio: null,
      repetition_ratio: null,
      question_overlap: null,
      question_coverage: null,
      readability_index: null,
    });
  });
});
