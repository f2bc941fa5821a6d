/**
 * Long prompts with checkable answers: passages of 300 to 1,500 tokens, each with a question whose answer stands in one
 * of their sentences, among news of other kinds. Templates and a seed make them. All names are invented, so no model
 * has read them.
 */
import { shuffled } from '../loadgen/jobs.js';
import { seeded } from '../loadgen/random.js';
import type { CheckedRequest, Half } from '../everyday/requests.js';

/** A sentence of a passage, with a question that it answers. */
interface Fact {
  readonly sentence: string;
  readonly question: string;
  /** Stands in the sentence, and in no other one of the passage. */
  readonly answer: string;
}

type Random = () => number;

/** The facts of a passage, each about a name or thing of its own. */
interface Topic {
  readonly facts: (random: Random) => readonly Fact[];
  /** Sentences without a fact. */
  readonly fillers: readonly string[];
}

const pairs = (first: string, second: string, join = ''): string[] =>
  first.split(' ').flatMap((a) => second.split(' ').map((b) => `${a}${join}${b}`));

const TOWNS = pairs('Bren Hallow Marsh Tarn Wick Oster Quill Fenn Lark Stave', 'field bury mere ford holm dale');
const PEOPLE = pairs('Lind Ok Merr Tams Vor Ash Pell Gar Hux Dun', 'afor ow quist ley combe berg', '');
const THINGS = pairs(
  'blue brass oak glass silver painted paper woollen',
  'lamp kettle clock basket mirror drum ladder bell',
  ' ',
);
const WORKS = 'baker potter gardener printer weaver carpenter tailor miller glazier farrier brewer saddler'.split(' ');
const MONTHS = 'January February March April May June July August September October'.split(' ');
const PLACES = 'library school mill harbour chapel bridge market tower bakery museum orchard theatre'.split(' ');
const TASKS = 'repair the roof of|paint the door of|sweep the yard of|count the chairs in|order a sign for'.split('|');

/** A whole number from `least` on, below `end`. */
const whole = (random: Random, least: number, end: number): number => least + Math.floor(random() * (end - least));

const oneOf = <T>(random: Random, values: readonly T[]): T => {
  const value = values[whole(random, 0, values.length)];
  if (value === undefined) throw new Error('a list of a passage is empty');
  return value;
};

/** Distinct numbers in random order. */
const numbers = (random: Random, least: number, end: number): number[] =>
  shuffled(
    Array.from({ length: end - least }, (_, i) => least + i),
    random,
  );

const TOPICS: readonly Topic[] = [
  {
    facts: (random) => {
      const minutes = numbers(random, 300, 1320);
      return shuffled(TOWNS, random).map((town, i) => {
        const at = minutes[i] ?? 0;
        const time = `${Math.floor(at / 60)}:${String(at % 60).padStart(2, '0')}`;
        const platform = whole(random, 1, 9);
        return {
          sentence: `The train to ${town} leaves at ${time} from platform ${platform} and stops at every station.`,
          question: `At what time does the train to ${town} leave?`,
          answer: time,
        };
      });
    },
    fillers: [
      'Passengers are asked to buy their tickets before they board.',
      'Dogs travel free of charge in the last carriage.',
      'On holidays the waiting room opens an hour later.',
    ],
  },
  {
    facts: (random) =>
      shuffled(PEOPLE, random).map((name, i) => {
        const town = TOWNS[i % TOWNS.length] ?? '';
        return {
          sentence: `Our neighbour ${name} has moved to ${town}, where the rent is low and the air is clean.`,
          question: `To which town has ${name} moved?`,
          answer: town,
        };
      }),
    fillers: [
      'The weather has been mild, and we sit outside in the evenings.',
      'Your old bicycle is still in the shed, behind the ladders.',
      'Please write soon and tell us about your new room.',
    ],
  },
  {
    facts: (random) => {
      const jobs = shuffled(
        TASKS.flatMap((task) => PLACES.map((place) => `${task} the ${place}`)),
        random,
      );
      return shuffled(PEOPLE, random).map((name, i) => ({
        sentence: `${name} will ${jobs[i]} before the ${whole(random, 2, 28)}th of ${oneOf(random, MONTHS)}.`,
        question: `Who will ${jobs[i]}?`,
        answer: name,
      }));
    },
    fillers: [
      'The chair thanked all members for coming in spite of the rain.',
      'There were no objections, and the meeting moved on.',
      'Tea was served after this item.',
    ],
  },
  {
    facts: (random) => {
      const years = numbers(random, 1702, 1990);
      return shuffled(THINGS, random).map((thing, i) => ({
        sentence: `The ${thing} was given to the museum in ${years[i]} by a family from ${oneOf(random, TOWNS)}.`,
        question: `In which year was the ${thing} given to the museum?`,
        answer: String(years[i]),
      }));
    },
    fillers: [
      'Visitors may take photographs without a flash.',
      'The labels were written by pupils of the local school.',
      'Some pieces are shown only in the summer months.',
    ],
  },
  {
    facts: (random) => {
      const stalls = numbers(random, 11, 99);
      return shuffled(PEOPLE, random).map((name, i) => ({
        sentence: `At stall ${stalls[i]}, ${name} the ${oneOf(random, WORKS)} shows new work and takes orders.`,
        question: `What is the number of ${name}'s stall?`,
        answer: String(stalls[i]),
      }));
    },
    fillers: [
      'The market opens at sunrise and closes when the bell rings.',
      'Carts must leave the square before noon.',
      'A band plays near the fountain in the afternoon.',
    ],
  },
];

/** Words of the shortest and the longest passage: 300 to 1,500 tokens of a common tokenizer. */
const WORDS = { least: 190, most: 950 } as const;
const TITLE = 'News from the valley';
const SEEDS = { tuning: 11_000, 'held-out': 23_000 } as const;

const wordsOf = (text: string): number => text.split(' ').length;

/** Sentences of the asked kind. Among more of them the embedded model finds the asked one in 8% of passages. */
const KINDRED = 2;

/** One passage with its question. Every length between the bounds is as likely by its logarithm. */
function passage(topic: Topic, random: Random, half: Half): CheckedRequest {
  const most = WORDS.least * (WORDS.most / WORDS.least) ** random();
  const own = topic.facts(random).slice(0, KINDRED);
  const { question, answer } = oneOf(random, own);
  const others = TOPICS.filter((each) => each !== topic).flatMap(({ facts, fillers }) => [
    ...facts(random).map(({ sentence }) => sentence),
    ...fillers,
  ]);
  const sentences: string[] = [];
  let words = own.reduce((sum, { sentence }) => sum + wordsOf(sentence), 0);
  for (const sentence of shuffled(others, random)) {
    if (words >= most) break;
    if (own.some((fact) => sentence.includes(fact.answer))) continue;
    sentences.push(sentence);
    words += wordsOf(sentence);
  }
  for (const { sentence } of own) sentences.splice(whole(random, 0, sentences.length + 1), 0, sentence);
  const request = `${TITLE}\n\n${sentences.join(' ')}\n\n${question} Answer with a few words of the text.`;
  return { half, kind: 'fact', request, right: [answer] };
}

/**
 * The passages of a half, in turn of every topic. Figures that a model folder keeps come from the tuning half, and
 * results from the held-out one.
 */
export function passages(half: Half, count: number): CheckedRequest[] {
  return Array.from({ length: count }, (_, i) => {
    const random = seeded(SEEDS[half] + i);
    const topic = TOPICS[i % TOPICS.length];
    if (topic === undefined) throw new Error('there is no topic');
    return passage(topic, random, half);
  });
}
